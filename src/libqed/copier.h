/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copies ranges of a file to other places of it, large pieces, several at a
 * time.  What the host has not stored of a range is punched where it goes, so
 * that a copy takes up no more space than what it was made of.
 */
#ifndef QED_COPIER_H
#define QED_COPIER_H

#include "file.h"

struct qed_copier;

/* 0 or -ENOMEM.  For one caller's thread; never an engine's. */
int qed_copier_create(struct qed_file *file, struct qed_copier **copier);
void qed_copier_destroy(struct qed_copier *copier);

/*
 * Begins to copy `len` bytes; may wait for earlier copies.  No range that is
 * copied to before the next qed_copier_wait() may overlap another one of either
 * kind.  The file has to be as long as where it goes.  Neighbours become one
 * copy.
 */
void qed_copier_add(struct qed_copier *copier, uint64_t from, uint64_t to,
		      uint64_t len);

/*
 * Until all copies are over: 0, or the first error of one and where in the file
 * that was, and then any part of any copy since the last wait may be missing.
 * Nothing is durable yet.
 */
int qed_copier_wait(struct qed_copier *copier, uint64_t *file_off);

#endif
