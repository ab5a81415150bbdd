// Export macro of the shared library. Everything that is not marked stays hidden.
#pragma once

#if defined(_WIN32)
#error "weft supports POSIX systems only"
#endif

#define WEFT_API __attribute__((visibility("default")))
