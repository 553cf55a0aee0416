/* The driver with the processor's instructions. */

#define PVIO_NO_HYPERCALLS
#define drive drive_native
#include "driver.c"
