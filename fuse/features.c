/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Since libfuse 3.17 there are 64 bits, set one by one by functions; 3.18
 * ignores what is put into the older fields.
 */
#include <config.h>

#include "features.h"

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)

void qedfs_features_choose(struct fuse_conn_info *conn, uint64_t wanted,
			   uint64_t unwanted)
{
	for (uint64_t bit = 1; bit; bit <<= 1) {
		if (wanted & bit)
			fuse_set_feature_flag(conn, bit);
		if (unwanted & bit)
			fuse_unset_feature_flag(conn, bit);
	}
}

bool qedfs_features_has(const struct fuse_conn_info *conn, uint64_t feature)
{
	return conn->want_ext & feature;
}

#else

void qedfs_features_choose(struct fuse_conn_info *conn, uint64_t wanted,
			   uint64_t unwanted)
{
	conn->want |= conn->capable & (unsigned)wanted;
	conn->want &= ~(unsigned)unwanted;
}

bool qedfs_features_has(const struct fuse_conn_info *conn, uint64_t feature)
{
	return conn->want & feature;
}

#endif
