#include "swap/mover.hpp"

#include <algorithm>
#include <utility>

namespace orlop::swap {

Result<std::unique_ptr<Mover>> Mover::create(MoverOptions options) {
  std::unique_ptr<Mover> mover(new Mover(options.trace));
  for (IoThreadOptions& drive : options.drives) {
    TRY_ASSIGN(mover->drives_.emplace_back(), IoThread::create(std::move(drive), mover->tickets_, mover->busy_));
  }
  return mover;
}

Mover::~Mover() { cancel_waiting(); }

std::size_t Mover::drive_of(const aio::Piece& piece) const {
  const auto has_it = [&](const auto& drive) { return drive->file() == piece.file; };
  const auto found = std::find_if(drives_.begin(), drives_.end(), has_it);
  return found == drives_.end() ? 0 : static_cast<std::size_t>(found - drives_.begin());
}

Result<Ticket> Mover::submit(MoveRequest request) {
  std::vector<std::vector<aio::Piece>> parts(drives_.size());
  for (const aio::Piece& piece : request.pieces) parts[drive_of(piece)].push_back(piece);
  if (request.pieces.empty()) parts.resize(1);
  const auto has_work = [&](const auto& part) { return !part.empty() || request.pieces.empty(); };
  const auto part_count = static_cast<std::size_t>(std::count_if(parts.begin(), parts.end(), has_work));
  for (const auto& drive : drives_) TRY(drive->check());
  TRY_ASSIGN(const Ticket ticket, tickets_.open(request.direction, request.index, aio::bytes_of(request.pieces), part_count));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (has_work(parts[i])) drives_[i]->submit({request.direction, request.priority, std::move(parts[i]), ticket.id});
  }
  return ticket;
}

void Mover::cancel_waiting() {
  for (const auto& drive : drives_) drive->cancel_waiting();
}

Traffic Mover::traffic() const {
  Traffic sum;
  for (const Traffic& drive : traffic_by_drive()) {
    sum.read_bytes += drive.read_bytes;
    sum.write_bytes += drive.write_bytes;
  }
  sum.busy_ns = busy_.ns();
  return sum;
}

std::vector<Traffic> Mover::traffic_by_drive() const {
  std::vector<Traffic> traffic;
  for (const auto& drive : drives_) traffic.push_back(drive->traffic());
  return traffic;
}

}  // namespace orlop::swap
