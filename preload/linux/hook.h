/* Linux: a hook is a function of the same name, found before libc's because it was preloaded. */
#ifndef OLLY_PRELOAD_LINUX_HOOK_H
#define OLLY_PRELOAD_LINUX_HOOK_H

#define HOOK(result, name, ...) __attribute__((visibility("default"))) result name(__VA_ARGS__)

/* In the static block of every thread: reached without a call, and there before main. */
struct olly_thread;
extern __thread struct olly_thread olly_this_thread
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline struct olly_thread *olly_self(void)
{
	return &olly_this_thread;
}

#endif
