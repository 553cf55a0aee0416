/*
 * uefi: an EFI application that writes a port and ends QEMU.  See ../README.md.  With IA32, for 32-bit firmware.
 *
 * It writes port 0x80 COUNT times, then isa-debug-exit's port. It is a whole PE image, headers included, so that no
 * linker for PE is needed: UEFI specification, 2.1.1; Microsoft's PE format.
 */

#define COUNT   37

#ifdef IA32
        .code32
        .macro address value
        .long \value
        .endm
        .set machine, 0x14c                     /* i386 */
        .set format, 0x10b                      /* PE32 */
        .set characteristics, 0x102             /* executable, 32 bits */
#else
        .code64
        .macro address value
        .quad \value
        .endm
        .set machine, 0x8664                    /* x86-64 */
        .set format, 0x20b                      /* PE32+ */
        .set characteristics, 0x22e             /* executable, large addresses, no debug information */
#endif
        .globl _start
_start:
image:
        .ascii "MZ"
        .fill 58, 1, 0
        .long signature - image

signature:
        .ascii "PE\0\0"
        .short machine
        .short 1                                /* sections */
        .long 0, 0, 0                           /* time, symbols */
        .short optional_end - optional
        .short characteristics
optional:
        .short format
        .byte 0, 0
        .long text_end - text                   /* size of code */
        .long 0, 0                              /* sizes of data */
        .long text - image                      /* entry point */
        .long text - image                      /* base of code */
#ifdef IA32
        .long 0                                 /* base of data */
#endif
        address 0                               /* linked address */
        .long 0x1000, 0x1000                    /* alignment in memory and in the file */
        .short 0, 0, 0, 0, 0, 0                 /* versions */
        .long 0
        .long text_end - image                  /* size of the image */
        .long text - image                      /* size of the headers */
        .long 0                                 /* checksum */
        .short 10                               /* EFI application */
        .short 0
        .rept 4
        address 0                               /* stack and heap */
        .endr
        .long 0
        .long 16                                /* directories, all empty */
        .fill 16, 8, 0
optional_end:
        .ascii ".text\0\0\0"
        .long text_end - text, text - image     /* in memory */
        .long text_end - text, text - image     /* in the file */
        .long 0, 0
        .short 0, 0
        .long 0x60000020                        /* code, executable, readable */

        .org 0x1000
text:
        mov $COUNT, %ecx
        mov $0x80, %edx
        mov $0x5a, %al
write:
        out %al, %dx
        loop write
        mov $0xf4, %edx
        mov $0x10, %al
end:
        out %al, %dx
halt:
        hlt
        jmp halt
        .org 0x2000
text_end:
