/* platform.h's time, and who may not use it so. */
#ifndef OLLY_PRELOAD_LINUX_CLOCK_H
#define OLLY_PRELOAD_LINUX_CLOCK_H

/* The program is about to say something about the processor's counter (PR_SET_TSC). */
void olly_clock_forbidden(void);

#endif
