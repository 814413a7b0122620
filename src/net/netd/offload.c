/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Checksums that a guest left to its card. */
#include "net/netd/offload.h"

#include "base/byteorder.h"
#include "net/checksum.h"

bool netd_offload(const struct net_header *header, uint8_t *frame, size_t size)
{
    unsigned type = header->gso_type & ~(unsigned)NET_GSO_ECN;
    if (type != NET_GSO_NONE && type != NET_GSO_TCP4 && type != NET_GSO_TCP6)
        return false;
    if (!(header->flags & NET_NEEDS_CSUM))
        return type == NET_GSO_NONE;
    size_t start = le16toh(header->csum_start), offset = le16toh(header->csum_offset);
    if (start < NET_ETHERNET || start + offset + 2 > size)
        return false;
    /* The field holds the sum of the pseudo header, so it is part of what is added (virtio 1.2, 5.1.6.2). */
    uint16_t sum = checksum_finish(checksum_add(0, frame + start, size - start));
    st16be(frame + start + offset, sum ? sum : 0xffff); /* the same number, and never UDP's "none" */
    return true;
}
