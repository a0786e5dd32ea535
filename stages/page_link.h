/*
 * Where a page (render_html.h) says that its findings are in DefectDojo. It is written before they are delivered, so at first it
 * names the product. Once the courier knows the test, its address is put there instead, in place: nothing else of the page is read,
 * written or moved. What is delivered later, from the spool, stays found by its product.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define PAGE_LINK_PREFIX "page-" /* page-<n> in out_fd names the page of delivery-<n> */

/* An entry of the page's facts; nothing where there is no product, or no address of a DefectDojo. */
void page_link_add(struct buf *out, const char *dojo_url, const char *product);

/* For the report stage: the page of delivery n is this file in out_fd. */
int page_link_note(int out_fd, size_t n, const char *page, struct err *e);

/* For the courier, who owns the page now: the first entry of the page of delivery n links to the test. A page without one stays as it is. */
int page_link_set(int out_fd, size_t n, const char *dojo_url, int64_t test_id, struct err *e);
