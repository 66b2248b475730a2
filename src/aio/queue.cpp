#include "aio/queue.hpp"

#include "aio/thread_queue.hpp"
#include "base/log.hpp"

#ifdef ORLOP_HAVE_URING
#include "aio/uring_queue.hpp"
#endif
#ifdef ORLOP_HAVE_LIBAIO
#include "aio/libaio_queue.hpp"
#endif

namespace orlop::aio {
namespace {

Result<> check(const QueueOptions& options) {
  if (options.depth == 0)
    return fail(ORLOP_INVALID_ARGUMENT, "queue: depth 0: at least one request must fit");
  if (options.thread_count == 0) {
    return fail(ORLOP_INVALID_ARGUMENT, "queue: thread_count 0: at least one thread must work");
  }
  return {};
}

[[maybe_unused]] tl::unexpected<Error> not_built(const char* what, const char* option) {
  return fail(ORLOP_UNSUPPORTED,
              "{} queue: this build has none: configured with -D{}=disabled or its library was missing", what,
              option);
}

Result<std::unique_ptr<Queue>> make_uring(const QueueOptions& options) {
#ifdef ORLOP_HAVE_URING
  return make_uring_queue(options);
#else
  static_cast<void>(options);
  return not_built("io_uring", "io_uring");
#endif
}

Result<std::unique_ptr<Queue>> make_libaio(const QueueOptions& options) {
#ifdef ORLOP_HAVE_LIBAIO
  return make_libaio_queue(options);
#else
  static_cast<void>(options);
  return not_built("Linux AIO", "libaio");
#endif
}

}  // namespace

Result<std::unique_ptr<Queue>> make_queue(QueueKind kind, const QueueOptions& options) {
  TRY(check(options));
  switch (kind) {
    case QueueKind::uring:
      return make_uring(options);
    case QueueKind::aio:
      return make_libaio(options);
    case QueueKind::threads:
      return make_thread_queue(options);
  }
  return fail(ORLOP_INVALID_ARGUMENT, "queue: kind {}: there is none", static_cast<int>(kind));
}

Result<std::unique_ptr<Queue>> make_best_queue(const QueueOptions& options) {
  TRY(check(options));
  auto uring = make_uring(options);
  if (uring) return uring;
  log_warning(
      "{}; using Linux AIO instead, which pins the pages of every request anew and takes several times the "
      "processor time per byte",
      uring.error().message);
  auto libaio = make_libaio(options);
  if (libaio) return libaio;
  log_warning(
      "{}; using {} threads that read and write instead, which takes more processor time per byte and may "
      "not "
      "reach the speed of a fast drive",
      libaio.error().message, options.thread_count);
  return make_thread_queue(options);
}

Result<QueueKind> queue_kind_of(std::string_view name) {
  if (name == "uring" || name == "io_uring") return QueueKind::uring;
  if (name == "aio" || name == "libaio") return QueueKind::aio;
  if (name == "threads") return QueueKind::threads;
  return fail(ORLOP_INVALID_ARGUMENT, "queue: \"{}\": not one of uring, aio, threads", name);
}

std::string_view name_of(QueueKind kind) {
  switch (kind) {
    case QueueKind::uring:
      return "uring";
    case QueueKind::aio:
      return "aio";
    case QueueKind::threads:
      return "threads";
  }
  return "?";
}

}  // namespace orlop::aio
