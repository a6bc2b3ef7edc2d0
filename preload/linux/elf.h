/* Functions of objects that are loaded now: elf.c says how they are found. */
#ifndef OLLY_PRELOAD_ELF_H
#define OLLY_PRELOAD_ELF_H

#include "olly.h"

/*
 * What `name` means to the code at `caller`, `but` (our own function of that name) aside.
 * `witness`: an object that the right library made, whose first words may point into it; or NULL.
 */
const void *olly_find_function(const char *name, const void *caller, const void *but,
			       const void *witness);

/* Functions of the object in which the address `inside` lies; NULL for what it does not have. */
void olly_functions_beside(const void *inside, const char *const *names, const void **functions,
			   u32 count);

#endif
