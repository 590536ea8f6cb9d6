/* Mistakes as they are made in C, each of which is found by the kernel or by the allocator. */

#include <stdlib.h>
#include <string.h>

/* Writes where there is no memory. */
void culprit_segv(void) {
    *(volatile int *)16 = 1;
}

/* Gives the same block back twice. */
void culprit_double_free(void) {
    void *volatile block = malloc(2000);
    void *volatile guard = malloc(2000);
    free(block);
    free(block);
    free(guard);
}

/* Writes past the end of a block, into what the allocator keeps behind it. */
void culprit_overrun(void) {
    char *volatile block = malloc(2000);
    char *volatile behind = malloc(2000);
    char *volatile guard = malloc(2000);
    for (int at = 0; at < 2100; at++)
        ((volatile char *)block)[at] = 'x';
    free(behind);
    free(block);
    free(guard);
}

/* Writes past the end of the last block of the heap, and asks for more: the allocator finds it out in the
 * middle of its work, when it holds its own lock. Blocks of 100,000 bytes are cut from the end. */
void culprit_malloc(void) {
    char *volatile block = malloc(100000);
    for (int at = 0; at < 64; at++)
        ((volatile char *)block)[100000 + at] = 'x';
    for (int round = 0; round < 1000; round++) {
        void *volatile more = malloc(100000);
        (void)more;
    }
    free(block);
}
