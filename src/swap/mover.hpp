// Mover: moves between memory and the drives of a store. They are submitted from any thread, get a ticket, and are
// carried out whole and checked, each drive's part by the thread that owns its ring.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "swap/io_thread.hpp"
#include "swap/tickets.hpp"

namespace orlop::swap {

struct MoverOptions {
  std::vector<IoThreadOptions> drives;  // at least one
  Trace* trace = nullptr;
};

struct MoveRequest {
  aio::Direction direction;
  aio::Priority priority;
  std::vector<aio::Piece> pieces;  // files and memory belong to the move until its ticket is done
  std::uint32_t index = 0;         // of the block, for the trace
};

class Mover {
 public:
  static Result<std::unique_ptr<Mover>> create(MoverOptions options);
  // Moves that have not begun end with ORLOP_CANCELLED; what is in flight is waited for.
  ~Mover();
  Mover(const Mover&) = delete;
  Mover& operator=(const Mover&) = delete;

  // Thread-safety of all that follows: any thread.

  // Fails when a queue has failed, and when Tickets::kMaximum have not been waited for. A piece goes to the drive whose
  // file it names, else to the first.
  Result<Ticket> submit(MoveRequest request);
  // These as Tickets has them.
  [[nodiscard]] bool poll(Ticket ticket) const { return tickets_.poll(ticket); }
  Result<> wait(Ticket ticket, int timeout_ms) { return tickets_.wait(ticket, timeout_ms); }
  [[nodiscard]] std::uint64_t finished() const { return tickets_.finished(); }
  void wait_beyond(std::uint64_t seen, int timeout_ms) const { tickets_.wait_beyond(seen, timeout_ms); }

  // Drops what was not given to a drive yet; those moves end with ORLOP_CANCELLED once the rest has come back.
  void cancel_waiting();

  // Of all drives; the time counts once where several were busy.
  [[nodiscard]] Traffic traffic() const;
  [[nodiscard]] std::vector<Traffic> traffic_by_drive() const;
  [[nodiscard]] const std::string& queue_name(std::size_t drive) const { return drives_[drive]->queue_name(); }

 private:
  explicit Mover(Trace* trace) : tickets_(trace) {}
  [[nodiscard]] std::size_t drive_of(const aio::Piece& piece) const;

  Tickets tickets_;
  BusyTime busy_;
  std::vector<std::unique_ptr<IoThread>> drives_;  // last: they use what is above
};

}  // namespace orlop::swap
