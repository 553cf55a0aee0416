// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "misc.h"
#include "../pvio.c"
