/* `emulate` for a device in user space whose writes are posted. */
#define emulate emulate_posted
#define device_in user_in
#define device_out post_out
#include "emulate.c"
