/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A boot sector that loads Linux from the disk by BIOS calls alone (Documentation/arch/x86/boot.rst). It makes no
 * access to a port. The second sector describes what to load; the host makes it:
 *
 *   offset  bytes
 *   0       4      the first sector of the kernel, a bzImage
 *   4       4      sectors of its setup code, the boot sector included
 *   8       4      the first sector of its protected-mode code
 *   12      4      bytes of that
 *   16      4      the first sector of the initramfs
 *   20      4      bytes of it
 *   24      4      the address of the initramfs
 *   32             the command line, ended by 0
 */
        .code16

        .set    TABLE, 0x7e00           /* the second sector */
        .set    BUFFER, 0x1000          /* segment: sectors on their way above 1 MiB */
        .set    SETUP, 0x9000           /* segment: the setup code */
        .set    STACK, 0xe000           /* in that segment: the end of its heap; the command line is after it */
        .set    CHUNK, 64               /* sectors, at most */
        .set    HIGH, 0x100000          /* the protected-mode code */

        .text
        .globl  _start
_start:
        ljmp    $0, $1f
1:      xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %ss
        mov     $0x7c00, %sp
        mov     %dl, drive
        cld

        mov     $1, %eax
        mov     $TABLE >> 4, %bx
        mov     $1, %cx
        call    read

        mov     TABLE, %eax
        mov     $SETUP, %bx
        mov     TABLE + 4, %cx
        call    read

        mov     $SETUP, %ax
        mov     %ax, %es
        movb    $0xff, %es:0x210        /* type_of_loader: unknown */
        orb     $0x80, %es:0x211        /* loadflags: there is a heap */
        movw    $STACK - 0x200, %es:0x224
        movl    $(SETUP << 4) + STACK, %es:0x228
        mov     TABLE + 24, %eax
        mov     %eax, %es:0x218
        mov     TABLE + 20, %eax
        mov     %eax, %es:0x21c
        mov     $TABLE + 32, %si
        mov     $STACK, %di
        mov     $(512 - 32) / 2, %cx
        rep movsw

        mov     TABLE + 8, %eax
        mov     TABLE + 12, %ebp
        mov     $HIGH, %edi
        call    load
        mov     TABLE + 16, %eax
        mov     TABLE + 20, %ebp
        mov     TABLE + 24, %edi
        call    load

        cli
        mov     $SETUP, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %fs
        mov     %ax, %gs
        mov     %ax, %ss
        mov     $STACK, %sp
        ljmp    $SETUP + 0x20, $0

/* Loads EBP bytes from sector EAX to the address EDI. */
load:
        test    %ebp, %ebp
        jle     2f
        push    %eax
        mov     $BUFFER, %bx
        mov     $CHUNK, %cx
        call    read
        mov     %edi, %eax              /* the last byte of the base is apart from the others */
        mov     %eax, to
        shr     $24, %eax
        mov     %al, to + 5
        movb    $0x93, to + 3           /* data, writable, accessed */
        mov     $0x87, %ah
        mov     $CHUNK * 256, %cx       /* words */
        mov     $table, %si
        push    %ds
        pop     %es
        int     $0x15
        jc      failed
        pop     %eax
        add     $CHUNK, %eax
        add     $CHUNK * 512, %edi
        sub     $CHUNK * 512, %ebp
        jmp     load
2:      ret

/* Reads CX sectors from sector EAX to BX:0. */
read:
        mov     %eax, packet + 8
        mov     %bx, packet + 6
        mov     %cx, packet + 2
        mov     $packet, %si
        mov     drive, %dl
        mov     $0x42, %ah
        int     $0x13
        jc      failed
        ret

failed:
        mov     $message, %si
3:      lodsb
        test    %al, %al
4:      jz      4b
        mov     $0x0e, %ah
        mov     $7, %bx
        int     $0x10
        jmp     3b

message: .asciz "The disk cannot be loaded."
drive:  .byte   0

        .balign 4
packet: .byte   16, 0
        .word   0, 0, 0
        .quad   0

/* The descriptors of INT 15h, function 87h: the third is the source, the fourth the destination. */
table:  .quad   0, 0
        .word   0xffff, (BUFFER << 4) & 0xffff
        .byte   (BUFFER << 4) >> 16, 0x93
        .word   0
        .word   0xffff
to:     .byte   0, 0, 0, 0x93, 0, 0
        .quad   0, 0

        .org    510
        .word   0xaa55
