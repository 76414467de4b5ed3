// Included first everywhere: keeps the binaries loadable where libtorch itself is, on systems with
// glibc 2.28 and the libstdc++ of its time, although they are built on newer ones. What later
// versions only renamed or moved is asked for under its first version.
#pragma once

#if defined(__x86_64__) && defined(__linux__)
#include <features.h>
#endif

#if defined(__x86_64__) && defined(__GLIBC__)

// glibc 2.34 moved these into libc.so.
__asm__(".symver dladdr,dladdr@GLIBC_2.2.5");
__asm__(".symver dlerror,dlerror@GLIBC_2.2.5");
__asm__(".symver dlopen,dlopen@GLIBC_2.2.5");
__asm__(".symver dlsym,dlsym@GLIBC_2.2.5");
__asm__(".symver pthread_once,pthread_once@GLIBC_2.2.5");
__asm__(".symver __pthread_key_create,__pthread_key_create@GLIBC_2.2.5");

#ifdef __cplusplus

// libstdc++ 12 made waiting a cancellation point under a new version.
__asm__(
    ".symver _ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE,"
    "_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE@GLIBCXX_3.4.11");

// glibc 2.32 tells libstdc++ when reference counts need no atomics. There are always several threads.
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
constexpr char torchbrush_single_threaded = 0;
#define __libc_single_threaded torchbrush_single_threaded
#endif

// glibc 2.33 made this a function of its own.
#include <sys/stat.h>
#if __GLIBC_PREREQ(2, 33)
extern "C" int __fxstat(int version, int descriptor, struct stat* status) noexcept;
#define fstat(descriptor, status) __fxstat(1, descriptor, status)
#endif

#endif
#endif
