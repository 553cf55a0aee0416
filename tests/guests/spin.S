/*
 * spin: every CPU writes to a port, forever, for tests of how a run is ended from outside.
 *
 * CPU i, by the number of smp.inc, executes `out dx,al` to port 0x5000 + 4 * i in real mode without
 * end.  Before that the BSP makes the three accesses to fw_cfg that smp.inc tells of.  Nothing else;
 * the run ends when somebody ends QEMU.
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
