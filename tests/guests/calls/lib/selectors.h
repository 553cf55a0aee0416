/* Segment selectors, for C and for assembly. Native: 32-bit code, or 64-bit code where BITS is 64. */
#pragma once

#define CODE0      0x08 /* native */
#define DATA0      0x10
#define CODE3      0x1b /* native */
#define DATA3      0x23
#define CODE1      0x29 /* native */
#define DATA1      0x31
#define CODE2      0x3a /* native */
#define DATA2      0x42
#define CODE0_32   0x48
#define CODE3_32   0x53
#define CODE0_16   0x58
#define CODE3_16   0x63
#define TASK       0x68
#define GDT_ENTRIES 15
