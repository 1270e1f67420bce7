// Adders of ECP5 as carry chains that neither begin nor end with a slice of their own.
//
// Yosys' map begins a chain with a carry input that is constant, and leaves the last carry output
// on a wire. nextpnr puts a slice in front of the former and one behind the latter, used or not.
// Here the first half slice makes the carry of bit 0 by itself, whose sum is a LUT outside of the
// chain, and carries that are asked for are made of sums.

(* techmap_celltype = "$alu" *)
module mulfree_ccu2c_alu (A, B, CI, BI, X, Y, CO);
	parameter A_SIGNED = 0;
	parameter B_SIGNED = 0;
	parameter A_WIDTH = 1;
	parameter B_WIDTH = 1;
	parameter Y_WIDTH = 1;
	parameter _TECHMAP_CONSTMSK_CI_ = 1'b0;
	parameter _TECHMAP_CONSTVAL_CI_ = 1'b0;
	parameter _TECHMAP_CONSTMSK_BI_ = 1'b0;
	parameter _TECHMAP_CONSTVAL_BI_ = 1'b0;

	(* force_downto *)
	input [A_WIDTH-1:0] A;
	(* force_downto *)
	input [B_WIDTH-1:0] B;
	(* force_downto *)
	output [Y_WIDTH-1:0] X, Y;
	input CI, BI;
	(* force_downto *)
	output [Y_WIDTH-1:0] CO;

	// Narrow ones are LUTs; those with a carry or a sign from a signal are left to Yosys' map.
	wire _TECHMAP_FAIL_ = Y_WIDTH <= 4 || !_TECHMAP_CONSTMSK_CI_ || !_TECHMAP_CONSTMSK_BI_;

	localparam SLICES = (Y_WIDTH + 1) / 2;
	localparam MINUS = _TECHMAP_CONSTVAL_BI_ === 1'b1;
	localparam CARRY = _TECHMAP_CONSTVAL_CI_ === 1'b1;
	// A bit, where inputs C and D are 1: sum and propagate by A ^ B, generate by A.
	localparam [15:0] BIT = MINUS ? 16'h99AA : 16'h66AA;
	// Nothing propagates, and the carry of bit 0 is generated: A & B, A | B, with B inverted or not.
	localparam [3:0] FIRST = MINUS ? (CARRY ? 4'b1011 : 4'b0010) : (CARRY ? 4'b1110 : 4'b1000);

	(* force_downto *)
	wire [2*SLICES-1:0] a, b, sum;
	\$pos #(.A_SIGNED(A_SIGNED), .A_WIDTH(A_WIDTH), .Y_WIDTH(2*SLICES)) extend_a (.A(A), .Y(a));
	\$pos #(.A_SIGNED(B_SIGNED), .A_WIDTH(B_WIDTH), .Y_WIDTH(2*SLICES)) extend_b (.A(B), .Y(b));

	wire [SLICES:0] carry;

	genvar i;
	generate for (i = 0; i < SLICES; i = i + 1) begin:slice
		if (i == 0)
			CCU2C #(
				.INIT0({8'h00, FIRST, FIRST}), .INIT1(BIT), .INJECT1_0("NO"), .INJECT1_1("NO")
			) ccu2c (
				.A0(a[0]), .B0(b[0]), .C0(1'b1), .D0(1'b1),
				.A1(a[1]), .B1(b[1]), .C1(1'b1), .D1(1'b1),
				.S1(sum[1]), .COUT(carry[1])
			);
		else
			CCU2C #(
				.INIT0(BIT), .INIT1(BIT), .INJECT1_0("NO"), .INJECT1_1("NO")
			) ccu2c (
				.CIN(carry[i]),
				.A0(a[2*i]), .B0(b[2*i]), .C0(1'b1), .D0(1'b1),
				.A1(a[2*i+1]), .B1(b[2*i+1]), .C1(1'b1), .D1(1'b1),
				.S0(sum[2*i]), .S1(sum[2*i+1]), .COUT(carry[i+1])
			);
	end endgenerate
	assign sum[0] = a[0] ^ b[0] ^ BI ^ CI;

	assign X = a ^ b ^ {(2*SLICES){BI}};
	assign Y = sum;
	// The carry into a bit is sum ^ X; where X is 1 it goes on, and elsewhere A says.
	assign CO = (X & ~Y) | (~X & a);
endmodule
