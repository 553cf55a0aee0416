/*
 * uefi32: uefi for 32-bit firmware.
 */

#define IA32
#include "uefi.S"
