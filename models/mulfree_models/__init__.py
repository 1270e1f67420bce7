"""Networks: training recipes, quantisation, the shipped digits network, the demo."""
