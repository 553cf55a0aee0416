/*
 * many-sites: writes port instructions, each at its own address, and runs each once.
 *
 *      SITES x out dx,al       port 0x5000     in 32-bit code
 *          1 x out imm8,al     port 0xf4       exit
 *
 * SITES is the dword at 0x600, which `-device loader` puts there; at most 16 Mi.
 */

#include "common.inc"

#define CODE            0x100000
#define SITES           0x600
#define OUT_DX_AL       0xEE
#define RET             0xC3
#define STACK           0x2000

reset_vector_to start
define_gdt

        .code16
start:
        cli
        cld
        real_segments
        mov     $STACK, %esp
        enter_protected
        mov     $CODE, %edi
        mov     SITES, %ecx
        mov     $OUT_DX_AL, %al
        rep stosb
        movb    $RET, (%edi)
        mov     $PORT_FREE, %edx
        mov     $CODE, %ebx
        call    *%ebx
        exit_with EXIT_PASS
