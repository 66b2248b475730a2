// For ThreadSanitizer, which does not see how a library that is built without it hands memory from thread to thread.
// Nothing in every other build.
#pragma once

#if defined(__has_feature)
#define ORLOP_HAS_FEATURE(feature) __has_feature(feature)
#else
#define ORLOP_HAS_FEATURE(feature) 0
#endif

#if defined(__SANITIZE_THREAD__) || ORLOP_HAS_FEATURE(thread_sanitizer)
#include <sanitizer/tsan_interface.h>

namespace orlop {
// What this thread did so far is seen by every thread that takes over at this place afterwards.
inline void hand_over(void* place) { __tsan_release(place); }
inline void take_over(void* place) { __tsan_acquire(place); }
}  // namespace orlop
#else
namespace orlop {
inline void hand_over(void*) {}
inline void take_over(void*) {}
}  // namespace orlop
#endif

#undef ORLOP_HAS_FEATURE
