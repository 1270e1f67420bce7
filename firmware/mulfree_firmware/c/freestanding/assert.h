/* What the register header needs of <assert.h>, which a compiler without a C library does not have. */
#ifndef MULFREE_FREESTANDING_ASSERT_H
#define MULFREE_FREESTANDING_ASSERT_H

#ifndef __cplusplus
#define static_assert _Static_assert
#endif

#endif
