/* The driver with hypercalls. */

#define drive drive_paravirt
#include "driver.c"
