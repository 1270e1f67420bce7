"""Zynq boards: a Vivado project that connects the processing system to the system over AXI.

`project` makes three files: the system's Verilog, a shell around it whose ports carry the names
and attributes that Vivado recognises as interfaces, and a Tcl script that does the rest.
"""

from pathlib import Path
from typing import Any

from mulfree_boards.board import Board, ZynqPorts

#: Zynq-7000: the processing system's names (AMD PG082).
PS7 = ZynqPorts(
    rule="xilinx.com:bd_rule:processing_system7",
    master="M_AXI_GP0",
    master_clock="M_AXI_GP0_ACLK",
    clock="FCLK_CLK0",
    reset="FCLK_RESET0_N",
    interrupt="IRQ_F2P",
    settings={
        "PCW_FPGA0_PERIPHERAL_FREQMHZ": "{mhz}",
        "PCW_USE_M_AXI_GP0": "1",
        "PCW_USE_FABRIC_INTERRUPT": "1",
        "PCW_IRQ_F2P_INTR": "1",
    },
)
#: Zynq UltraScale+: the processing system's names (AMD PG201).
PSU = ZynqPorts(
    rule="xilinx.com:bd_rule:zynq_ultra_ps_e",
    master="M_AXI_HPM0_FPD",
    master_clock="maxihpm0_fpd_aclk",
    clock="pl_clk0",
    reset="pl_resetn0",
    interrupt="pl_ps_irq0",
    settings={
        "PSU__FPGA_PL0_ENABLE": "1",
        "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ": "{mhz}",
        "PSU__USE__M_AXI_GP0": "1",
        "PSU__USE__M_AXI_GP1": "0",
        "PSU__USE__M_AXI_GP2": "0",
        "PSU__USE__IRQ0": "1",
    },
)
