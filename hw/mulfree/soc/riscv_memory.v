// The soft core's memory: one port, bytes written apart, filled from a file of words in hexadecimal.
//
// `read` follows one clock after an enabled address; a write leaves it as it is.

module mulfree_riscv_memory #(
    parameter WORDS = 1024,
    parameter FILE = "mulfree_firmware.hex"
) (
    input wire clk,
    input wire [29:0] address,
    input wire enable,
    input wire [3:0] write,
    input wire [31:0] written,
    output reg [31:0] read
);
    localparam BITS = $clog2(WORDS);
    reg [31:0] words [0:WORDS - 1];
    wire [BITS - 1:0] word = address[BITS - 1:0];

    initial $readmemh(FILE, words);

    always @(posedge clk) begin
        if (enable) begin
            if (write[0]) words[word][7:0] <= written[7:0];
            if (write[1]) words[word][15:8] <= written[15:8];
            if (write[2]) words[word][23:16] <= written[23:16];
            if (write[3]) words[word][31:24] <= written[31:24];
            if (write == 4'b0000) read <= words[word];
        end
    end
endmodule
