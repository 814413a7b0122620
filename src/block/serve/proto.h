/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Numbers of the NBD protocol, as NetworkBlockDevice's doc/proto.md has them; all are big-endian on the wire.
 */
#ifndef HOSTEL_BLOCK_SERVE_PROTO_H
#define HOSTEL_BLOCK_SERVE_PROTO_H

#include <stdint.h>

#define NBD_MAGIC UINT64_C(0x4e42444d41474943)        /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC UINT64_C(0x3e889045565a9)
#define NBD_REQUEST_MAGIC UINT32_C(0x25609513)
#define NBD_SIMPLE_MAGIC UINT32_C(0x67446698)
#define NBD_CHUNK_MAGIC UINT32_C(0x668e33ef)

/* Of the handshake; the client answers with the same bits. */
enum { NBD_FIXED_NEWSTYLE = 1, NBD_NO_ZEROES = 2 };

enum nbd_option {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
};

#define NBD_REP_ERROR(n) (UINT32_C(0x80000000) | (n))
#define NBD_REP_ACK UINT32_C(1)
#define NBD_REP_SERVER UINT32_C(2)
#define NBD_REP_INFO UINT32_C(3)
#define NBD_REP_META_CONTEXT UINT32_C(4)
#define NBD_REP_ERR_UNSUP NBD_REP_ERROR(1)
#define NBD_REP_ERR_POLICY NBD_REP_ERROR(2)
#define NBD_REP_ERR_INVALID NBD_REP_ERROR(3)
#define NBD_REP_ERR_TLS_REQD NBD_REP_ERROR(5)
#define NBD_REP_ERR_UNKNOWN NBD_REP_ERROR(6)
#define NBD_REP_ERR_BLOCK_SIZE_REQD NBD_REP_ERROR(8)
#define NBD_REP_ERR_TOO_BIG NBD_REP_ERROR(9)

enum { NBD_INFO_EXPORT = 0, NBD_INFO_NAME = 1, NBD_INFO_DESCRIPTION = 2, NBD_INFO_BLOCK_SIZE = 3 };

/* Of an export. */
enum {
    NBD_HAS_FLAGS = 1,
    NBD_READ_ONLY = 2,
    NBD_SEND_FLUSH = 4,
    NBD_SEND_FUA = 8,
    NBD_SEND_TRIM = 32,
    NBD_SEND_WRITE_ZEROES = 64,
    NBD_SEND_DF = 128,
    NBD_CAN_MULTI_CONN = 256,
    NBD_SEND_CACHE = 1024,
    NBD_SEND_FAST_ZERO = 2048,
};

enum nbd_command {
    NBD_READ = 0,
    NBD_WRITE = 1,
    NBD_DISCONNECT = 2,
    NBD_FLUSH = 3,
    NBD_TRIM = 4,
    NBD_CACHE = 5,
    NBD_WRITE_ZEROES = 6,
    NBD_BLOCK_STATUS = 7,
};

enum {
    NBD_FLAG_FUA = 1,
    NBD_FLAG_NO_HOLE = 2,
    NBD_FLAG_DF = 4,
    NBD_FLAG_REQ_ONE = 8,
    NBD_FLAG_FAST_ZERO = 16
};

enum {
    NBD_CHUNK_NONE = 0,
    NBD_CHUNK_DATA = 1,
    NBD_CHUNK_HOLE = 2,
    NBD_CHUNK_STATUS = 5,
    NBD_CHUNK_ERROR = 32769,
};
enum { NBD_CHUNK_DONE = 1 };

enum { NBD_STATE_HOLE = 1, NBD_STATE_ZERO = 2, NBD_STATE_DIRTY = 1 };

enum {
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_EOVERFLOW = 75,
    NBD_ENOTSUP = 95,
};

/* Ours: what one request may carry, what a string may have (the specification's), what an option may have. */
enum { NBD_PAYLOAD_MAX = 32 << 20, NBD_STRING_MAX = 4096, NBD_OPTION_MAX = 32 << 10 };

#endif
