#include "textflag.h"

// Each constant fills a register of 32 bytes.
#define BYTES32(name, b) \
	DATA name<>+0(SB)/8, $b; \
	DATA name<>+8(SB)/8, $b; \
	DATA name<>+16(SB)/8, $b; \
	DATA name<>+24(SB)/8, $b; \
	GLOBL name<>(SB), RODATA|NOPTR, $32

BYTES32(slashes, 0x5c5c5c5c5c5c5c5c)
BYTES32(quotes, 0x2222222222222222)
BYTES32(controls, 0x1f1f1f1f1f1f1f1f)
BYTES32(nibbles, 0x0f0f0f0f0f0f0f0f)

// Which of the characters " \ b f n r t (22 5c 62 66 6e 72 74) have this low
// half, and which this high half: bit 0 for 2., bit 1 for 5., bit 2 for 6.,
// bit 3 for 7. A byte is one of them if its halves share a bit.
DATA lows<>+0(SB)/8, $0x00040008000d0000 // .2: 2, 6, 7; .4: 7; .6: 6
DATA lows<>+8(SB)/8, $0x0004000200000000 // .c: 5; .e: 6
DATA lows<>+16(SB)/8, $0x00040008000d0000
DATA lows<>+24(SB)/8, $0x0004000200000000
GLOBL lows<>(SB), RODATA|NOPTR, $32
DATA highs<>+0(SB)/8, $0x0804020000010000 // 2., 5., 6., 7.
DATA highs<>+8(SB)/8, $0
DATA highs<>+16(SB)/8, $0x0804020000010000
DATA highs<>+24(SB)/8, $0
GLOBL highs<>(SB), RODATA|NOPTR, $32

// MARKS leaves a bit for each of the 32 bytes at SI+off: backslash, quote,
// control character, and no character of a simple escape.
#define MARKS(off, slash, quote, control, other) \
	VMOVDQU off(SI), Y0; \
	VPCMPEQB Y0, Y8, Y1; \
	VPMOVMSKB Y1, slash; \
	VPCMPEQB Y0, Y9, Y2; \
	VPMOVMSKB Y2, quote; \
	VPMINUB Y0, Y10, Y3; \
	VPCMPEQB Y0, Y3, Y3; \
	VPMOVMSKB Y3, control; \
	VPSHUFB Y0, Y11, Y4; \ // 0 for bytes from 0x80 on
	VPSRLW $4, Y0, Y5; \
	VPAND Y13, Y5, Y5; \
	VPSHUFB Y5, Y12, Y5; \
	VPAND Y4, Y5, Y5; \
	VPCMPEQB Y7, Y5, Y5; \
	VPMOVMSKB Y5, other

#define JOIN(low, high) \
	SHLQ $32, high; \
	ORQ high, low

// func plainAVX2(p *byte, n int) (plain int, slashes uint64)
TEXT ·plainAVX2(SB), NOSPLIT, $0-32
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX
	XORQ AX, AX // bytes done
	XORQ DX, DX // 1: the first byte follows an escape's backslash
	MOVQ $0, slashes+24(FP)
	VMOVDQU slashes<>(SB), Y8
	VMOVDQU quotes<>(SB), Y9
	VMOVDQU controls<>(SB), Y10
	VMOVDQU lows<>(SB), Y11
	VMOVDQU highs<>(SB), Y12
	VMOVDQU nibbles<>(SB), Y13
	VPXOR Y7, Y7, Y7

next:
	CMPQ CX, $64
	JLT done
	MARKS(0, R8, R9, R10, R11)
	MARKS(32, R12, R13, BX, DI)
	JOIN(R8, R12)
	JOIN(R9, R13)
	JOIN(R10, BX)
	JOIN(R11, DI)

	// Which characters a backslash escapes, where backslashes may follow each
	// other: in a run that begins at an even place every odd one, and so on.
	// Source: simdjson, json_escape_scanner.
	MOVQ $0xaaaaaaaaaaaaaaaa, R13
	MOVQ DX, BX
	NOTQ BX
	ANDQ R8, BX // backslashes that may begin an escape
	LEAQ (BX)(BX*1), R12
	ORQ R13, R12
	SUBQ BX, R12
	XORQ R13, R12
	MOVQ R8, DI
	ORQ DX, DI
	XORQ R12, DI // escaped characters
	ANDQ R8, R12
	SHRQ $63, R12

	ANDQ DI, R11 // escapes that are not simple
	ORQ R10, R11
	NOTQ DI
	ANDQ R9, DI // quotes that end the string
	ORQ DI, R11
	JNZ done
	ORQ R8, slashes+24(FP)
	MOVQ R12, DX
	ADDQ $64, SI
	ADDQ $64, AX
	SUBQ $64, CX
	JMP next

done:
	SUBQ DX, AX // an escape that goes on behind is not checked
	MOVQ AX, plain+16(FP)
	VZEROUPPER
	RET
