"""The chips on the boards. Figures: the makers' data sheets; block RAM in the smallest block."""

from mulfree_boards.board import Device

# Lattice FPGA-DS-02012, table 1.1
ECP5_85 = Device("LFE5U-85F", "ecp5", luts=83640, ff=83640, ram=208, ram_bits=16384, dsp=156)
ECP5_25 = Device("LFE5U-25F", "ecp5", luts=24288, ff=24288, ram=56, ram_bits=16384, dsp=28)
# Lattice FPGA-DS-02008, table 1.1; its four large RAMs are left to the user's own design
UP5K = Device("iCE40UP5K", "ice40", luts=5280, ff=5280, ram=30, ram_bits=4096, dsp=8)
# Gowin DS117, table 1-1
GW1NR_9C = Device("GW1NR-9C", "gowin", luts=8640, ff=6480, ram=26, ram_bits=16384, dsp=20)
# AMD DS190, table 5; DS891, table 11
XC7Z020 = Device("XC7Z020", "xc7", luts=53200, ff=106400, ram=280, ram_bits=16384, dsp=220)
XCZU7EV = Device("XCZU7EV", "xcup", luts=230400, ff=460800, ram=624, ram_bits=16384, dsp=1728)
