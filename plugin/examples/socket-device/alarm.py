#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""An alarm clock: write milliseconds to the first port, and an interrupt comes after that time.

A read returns how often it has rung since the last read, and lowers the interrupt line."""

import sys

import pvio_device


class Alarm(pvio_device.Device):
    def reset(self):
        self.rings = 0

    def write(self, offset, size, value):
        self.after(value / 1000, self.ring)

    def ring(self):
        self.rings += 1
        self.raise_irq()

    def read(self, offset, size):
        self.lower_irq()
        rings, self.rings = self.rings, 0
        return rings


pvio_device.serve(Alarm, sys.argv[1])
