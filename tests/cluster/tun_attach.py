"""Makes the descriptor that is standard input the other end of a new tunnel.

    tun_attach.py NAME < /dev/net/tun
"""

import fcntl
import struct
import sys

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

fcntl.ioctl(0, TUNSETIFF, struct.pack("16sH22x", sys.argv[1].encode(), IFF_TUN | IFF_NO_PI))
