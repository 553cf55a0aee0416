# SPDX-License-Identifier: MIT OR Apache-2.0
"""A device at the ports of an x86 guest, in Python: the other side of pvio's `device=socket@PORTS:path=SOCKET`.

    import pvio_device

    class Counter(pvio_device.Device):
        def reset(self):
            self.count = 0

        def read(self, offset, size):
            self.count += 1
            return self.count

    pvio_device.serve(Counter, "counter.sock")

Start this program, then QEMU with `device=socket@0x300:path=counter.sock`. One file, Python 3.8 or newer, nothing else.
The protocol is in pvio's docs/socket-device.md.
"""

import heapq
import os
import select
import socket
import stat
import struct
import sys
import time

VERSION = 1
MAGIC = int.from_bytes(b"PVIO", "little")
HELLO, READ, WRITE, READ_STRING, WRITE_STRING, RESET, IRQ, END, SAW_READ, SAW_WRITE = range(1, 11)
ANSWER = 0x80
# Kind, element size, offset, value, count, id.
FRAME = struct.Struct("<BBHIII")
# Of an access that an observer sees: time, address, vCPU, flags.
DETAILS = struct.Struct("<QQII")
BY_HYPERCALL, MAY_HAVE_FAULTED, VALUE_UNKNOWN, VCPU_UNKNOWN = 1, 2, 4, 8


class ProtocolError(Exception):
    """The other side does not speak the protocol."""


class Device:
    """A device. Override what it does; every method here may be left as it is.

    One instance lives as long as the connection: QEMU starts with a new one. All methods are called on one thread.
    Attributes: `first`, the number of its first port, and `ports`, how many it has.
    """

    first = 0
    ports = 0

    def reset(self):
        """The machine starts, or is reset. The interrupt line is low."""

    def read(self, offset, size):
        """The guest reads `size` bytes (1 to 4) at a port. Returns the value; its low `size` bytes count."""
        return 0xFFFFFFFF

    def write(self, offset, size, value):
        """The guest writes `size` bytes (1 to 4) to a port."""

    def read_string(self, offset, size, count):
        """The guest reads `count` elements by a string instruction. Returns their bytes. Override it for speed."""
        mask = (1 << 8 * size) - 1
        return b"".join((self.read(offset, size) & mask).to_bytes(size, "little") for _ in range(count))

    def write_string(self, offset, size, data):
        """The guest writes the elements in `data` by a string instruction. Override it for speed."""
        for at in range(0, len(data), size):
            self.write(offset, size, int.from_bytes(data[at : at + size], "little"))

    def saw(self, access):
        """The guest has made an access that another device serves: an `Access`. Only with `device=observe`."""

    def end(self):
        """The machine has ended, or the connection is lost."""

    # What a device may call.

    def raise_irq(self):
        """Raises the interrupt line that QEMU's option names by irq=."""
        self._connection.send(FRAME.pack(IRQ, 0, 0, 1, 0, 0))

    def lower_irq(self):
        """Lowers it."""
        self._connection.send(FRAME.pack(IRQ, 0, 0, 0, 0, 0))

    def pulse_irq(self):
        """Raises and lowers it: an edge, which the PC's interrupt controllers latch."""
        self.raise_irq()
        self.lower_irq()

    def after(self, seconds, function, *arguments):
        """Calls a function after a time of the host's clock, unless the machine is reset before."""
        self._connection.add_timer(time.monotonic() + seconds, function, arguments)


class Access:
    """An access that an observer sees."""

    def __init__(self, frame, details):
        kind, self.size, self.offset, value, self.left_out, _ = frame
        self.time_ns, self.pc, vcpu, flags = DETAILS.unpack(details)
        self.is_write = kind == SAW_WRITE
        self.value = None if flags & VALUE_UNKNOWN else value
        self.vcpu = None if flags & VCPU_UNKNOWN else vcpu
        self.by_hypercall = bool(flags & BY_HYPERCALL)
        self.may_have_faulted = bool(flags & MAY_HAVE_FAULTED)


class _Connection:
    """One QEMU and its device."""

    def __init__(self, stream, device):
        self.stream = stream
        self.device = device
        self.timers = []
        self.timers_made = 0
        device._connection = self

    def send(self, data):
        self.stream.sendall(data)

    def receive(self, length):
        """Returns so many bytes. Raises EOFError at the end of the connection."""
        data = self.stream.recv(length, socket.MSG_WAITALL)
        while len(data) < length:
            more = self.stream.recv(length - len(data), socket.MSG_WAITALL)
            if not more:
                raise EOFError
            data += more
        return data

    def add_timer(self, when, function, arguments):
        self.timers_made += 1
        heapq.heappush(self.timers, (when, self.timers_made, function, arguments))

    def run_timers(self):
        """Calls functions whose time has come, until the guest wants something."""
        while self.timers:
            left = self.timers[0][0] - time.monotonic()
            if left <= 0:
                _, _, function, arguments = heapq.heappop(self.timers)
                function(*arguments)
            elif select.select([self.stream], [], [], left)[0]:
                return

    def greet(self):
        kind, _, first, value, ports, version = FRAME.unpack(self.receive(FRAME.size))
        if (kind, value) != (HELLO, MAGIC):
            raise ProtocolError("the other side is not pvio")
        self.send(FRAME.pack(HELLO | ANSWER, 0, 0, MAGIC, 0, VERSION))
        if version != VERSION:
            raise ProtocolError(f"pvio speaks version {version} of the protocol, and this module version {VERSION}")
        self.device.first, self.device.ports = first, ports

    def serve(self):
        self.greet()
        device = self.device
        unpack, pack, size_of_frame = FRAME.unpack, FRAME.pack, FRAME.size
        while True:
            if self.timers:
                self.run_timers()
            kind, size, offset, value, count, number = unpack(self.receive(size_of_frame))
            data = b""
            if kind == READ:
                value = device.read(offset, size) & 0xFFFFFFFF
            elif kind == WRITE:
                device.write(offset, size, value)
            elif kind == READ_STRING:
                data = device.read_string(offset, size, count)
                if len(data) != size * count:
                    raise ValueError(f"read_string returned {len(data)} bytes for {count} elements of {size}")
            elif kind == WRITE_STRING:
                device.write_string(offset, size, self.receive(size * count))
            elif kind == RESET:
                self.timers.clear()
                # Before what the device sends: pvio ignores interrupts until this answer.
                self.send(pack(RESET | ANSWER, 0, 0, 0, 0, number))
                device.reset()
                continue
            elif kind in (SAW_READ, SAW_WRITE):
                frame = (kind, size, offset, value, count, number)
                device.saw(Access(frame, self.receive(DETAILS.size)))
            elif kind == END:
                return
            else:
                raise ProtocolError(f"pvio sent a frame of the unknown kind {kind}")
            if number:
                self.send(pack(kind | ANSWER, size, offset, value, count, number) + data)


def listen(path):
    """Makes a listening socket that only this user may connect to. Replaces a socket that nobody serves."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
                try:
                    other.connect(path)
                except ConnectionRefusedError:
                    os.unlink(path)
    except FileNotFoundError:
        pass
    os.fchmod(stream.fileno(), 0o600)
    stream.bind(path)
    stream.listen(1)
    return stream


def serve(device, path, once=False):
    """Listens at `path`, and serves each QEMU that connects, one after the other, by a new `device()`.

    With `once`, returns after the first. An exception in a device ends the program, and the guest goes on without it.
    """
    with listen(path) as listener:
        try:
            while True:
                stream, _ = listener.accept()
                with stream:
                    serve_connection(device(), stream)
                if once:
                    return
        except KeyboardInterrupt:
            pass
        finally:
            os.unlink(path)


def serve_connection(device, stream):
    """Serves one connected socket until the machine ends. A stranger gets a line on stderr."""
    try:
        _Connection(stream, device).serve()
    except (EOFError, ConnectionError):
        pass
    except ProtocolError as error:
        print(f"pvio_device: {error}", file=sys.stderr)
    device.end()
