/* `emulate` for a device in user space. */
#define emulate emulate_user
#define device_in user_in
#define device_out user_out
#include "emulate.c"
