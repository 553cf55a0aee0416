/* The devices of the board: qemu-scripts/src/demo.rs configures pvio to provide them. */
#pragma once

#define UART   0x2f8
#define STREAM 0x300
#define LATCH  0x310

/* The block that the driver sends. */
extern unsigned char block[4096];

/* The driver, in both ways. */
unsigned int drive_native(void);
unsigned int drive_paravirt(void);
