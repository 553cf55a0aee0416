/*
 * spin: every CPU writes to a port endlessly, for tests in which the run is ended from outside.
 *
 * CPU i (smp.inc numbers them) executes `out dx,al` to port 0x5000 + 4 * i in real mode, endlessly.
 * Before that the BSP makes the three accesses to fw_cfg that smp.inc describes.  There are no other
 * accesses, and the guest never ends QEMU.
 */

#include "common.inc"
#include "smp.inc"

reset_vector_to bsp_entry
define_gdt

        .code16
cpu_main:
        lea     PORT_FREE(, %ebp, 4), %edx
        .globl  spin
spin:   out     %al, %dx
        jmp     spin
