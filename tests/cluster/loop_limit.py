"""Sets how much of its file a loop device may use: below it all works, behind it is EIO.

    loop_limit.py DEVICE BYTES      0 takes the limit away
"""

import fcntl
import struct
import sys

LOOP_SET_STATUS64, LOOP_GET_STATUS64 = 0x4C04, 0x4C05
STATUS_BYTES, SIZE_LIMIT_AT = 232, 32

with open(sys.argv[1], "rb+", buffering=0) as device:
    status = bytearray(fcntl.ioctl(device, LOOP_GET_STATUS64, bytes(STATUS_BYTES)))
    struct.pack_into("<Q", status, SIZE_LIMIT_AT, int(sys.argv[2]))
    fcntl.ioctl(device, LOOP_SET_STATUS64, bytes(status))
