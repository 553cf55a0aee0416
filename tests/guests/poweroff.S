/*
 * poweroff: a few port accesses, then soft off through ACPI as firmware does it on `-machine pc`.
 *
 * After a reset, the PIIX4's power management function has no I/O ports and is disabled (82371AB datasheet:
 * PMBASE, PMREGMISC, PMCNTRL). So the guest first assigns and enables its ports through PCI configuration
 * mechanism #1.  QEMU then ends with status 0.
 *
 * Port accesses, all from 16-bit code, one per execution:
 *
 *      10 x out imm8,al  port 0x80     POST codes 1 to 10
 *       3 x in al,dx     port 0x5000   no device
 *       2 x out dx,eax   port 0xcf8    PCI address: PMBASE, PMREGMISC
 *       1 x out dx,eax   port 0xcfc    PMBASE
 *       1 x out dx,al    port 0xcfc    PMREGMISC
 *       1 x out dx,ax    port 0x604    PMCNTRL: off
 */

#include "common.inc"

#define PCI_ENABLE      (1 << 31)
#define PIIX4_PM        ((1 << 11) | (3 << 8))  /* bus 0, device 1, function 3 */
#define PMBASE          0x40
#define PMBASE_IO       1                       /* bit 0: "I/O space", reads as 1 */
#define PMREGMISC       0x80
#define PMIOSE          1                       /* the ports of PMBASE are open */

#define PM_PORTS        0x600                   /* where SeaBIOS puts them */
#define PMCNTRL         (PM_PORTS + 4)
#define SUS_EN          (1 << 13)               /* ACPI: SLP_EN; SUS_TYP 0 in bits 12:10 is soft off */

reset_vector_to start

        .code16
        .globl  start
start:
        cli

        mov     $1, %al
1:      out     %al, $PORT_POST
        inc     %al
        cmp     $10, %al
        jbe     1b

        mov     $PORT_FREE, %dx
        mov     $3, %cx
2:      in      %dx, %al
        loop    2b

        mov     $PORT_PCI_ADDR, %dx
        mov     $PCI_ENABLE | PIIX4_PM | PMBASE, %eax
        out     %eax, %dx
        mov     $PORT_PCI_DATA, %dx
        mov     $PM_PORTS | PMBASE_IO, %eax
        out     %eax, %dx

        mov     $PORT_PCI_ADDR, %dx
        mov     $PCI_ENABLE | PIIX4_PM | PMREGMISC, %eax
        out     %eax, %dx
        mov     $PORT_PCI_DATA, %dx
        mov     $PMIOSE, %al
        out     %al, %dx

        mov     $PMCNTRL, %dx
        mov     $SUS_EN, %ax
        out     %ax, %dx
        halt_forever                            /* as with exit_with: the end comes when QEMU is ready */
