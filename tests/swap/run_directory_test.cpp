#include "swap/run_directory.hpp"

#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "support.hpp"
#include "swap/lock_file.hpp"
#include "swap/pin.hpp"
#include "swap/saved_store.hpp"
#include "swap/store_header.hpp"

namespace orlop::swap {
namespace {

using namespace testing;
using ::testing::HasSubstr;

void write_file(const std::string& path, const std::string& content) { std::ofstream(path) << content; }

std::string lock_of(const std::string& host, const std::string& boot_id) {
  return nlohmann::json{{"host", host}, {"boot_id", boot_id}, {"pid", 4242}, {"started", "2026-01-02T03:04:05Z"}}.dump();
}

std::string our_lock() {
  const auto self = LockOwner::self();
  return lock_of(self.host, self.boot_id);
}

// As a crashed run leaves it.
std::string make_leftover(const TemporaryDirectory& directory, const std::string& run, const std::string& lock) {
  const auto path = directory / "orlop/" + run;
  fs::create_directories(path);
  write_file(path + "/rank0.lock", lock);
  write_file(path + "/rank0.store", std::string(1 << 20, 'x'));
  return path;
}

TEST(RunDirectory, IsMadeAndLockedAndGoesWithoutATrace) {
  TemporaryDirectory directory;
  {
    const auto run = RunDirectory::acquire(directory.path(), "run-1", 0);
    ASSERT_TRUE(run) << run.error().message;
    EXPECT_EQ(run->path(), directory / "orlop/run-1");
    EXPECT_EQ(run->store_path(), directory / "orlop/run-1/rank0.store");
    const auto owner = read_lock_owner(run->lock_path()).value();
    EXPECT_EQ(owner.pid, ::getpid());
    EXPECT_EQ(owner.host, LockOwner::self().host);
    write_file(run->store_path(), "states");
  }
  EXPECT_TRUE(directory.is_empty());
}

TEST(RunDirectory, WhatIsNotOursStays) {
  TemporaryDirectory directory;
  fs::create_directories(directory / "orlop/run");
  write_file(directory / "orlop/run/notes.txt", "mine");
  (void)RunDirectory::acquire(directory.path(), "run", 0).value();
  EXPECT_TRUE(fs::exists(directory / "orlop/run/notes.txt"));
  EXPECT_FALSE(fs::exists(directory / "orlop/run/rank0.lock"));
}

TEST(RunDirectory, ASecondOwnerIsRefusedByName) {
  TemporaryDirectory directory;
  const auto first = RunDirectory::acquire(directory.path(), "run", 0).value();
  for (const auto& refused :
       {RunDirectory::acquire(directory.path(), "run", 0).map([](auto&&) {}), check_not_busy(directory.path(), "run", 0)}) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().status, ORLOP_BUSY);
    EXPECT_THAT(refused.error().message,
                HasSubstr(fmt::format("process {} on {}", ::getpid(), LockOwner::self().host)));
  }
  EXPECT_TRUE(fs::exists(first.lock_path()));
  EXPECT_TRUE(RunDirectory::acquire(directory.path(), "run", 1)) << "each rank has its own";
  EXPECT_TRUE(check_not_busy(directory.path(), "another", 0));
}

TEST(RunDirectory, ReclaimsWhatCrashedRunsOfThisMachineLeft) {
  TemporaryDirectory directory;
  const auto old = make_leftover(directory, "old", our_lock());
  const auto cut_short = make_leftover(directory, "cut-short", "");
  EXPECT_GE(reclaimable_bytes(directory.path()), 2u << 20);
  CapturedLog log;
  const auto run = RunDirectory::acquire(directory.path(), "new", 0).value();
  EXPECT_FALSE(fs::exists(old));
  EXPECT_FALSE(fs::exists(cut_short));
  EXPECT_THAT(log.text(), AllOf(HasSubstr(old), HasSubstr("left over"), HasSubstr("(1048576 bytes)")));
  EXPECT_EQ(reclaimable_bytes(directory.path()), 0u);
}

TEST(RunDirectory, KnowsItsMachineByBootIdWhenTheHostNameChanged) {
  TemporaryDirectory directory;
  const auto old = make_leftover(directory, "old", lock_of("container-1", LockOwner::self().boot_id));
  (void)RunDirectory::acquire(directory.path(), "new", 0).value();
  EXPECT_FALSE(fs::exists(old));
}

TEST(RunDirectory, LeavesOtherMachinesAndLiveRunsAlone) {
  TemporaryDirectory directory;
  const auto elsewhere = make_leftover(directory, "elsewhere", lock_of("another-host", "another-boot"));
  const auto live = make_leftover(directory, "live", our_lock());
  const auto lock = take_lock(live + "/rank0.lock", Missing::fail).value();
  EXPECT_EQ(reclaimable_bytes(directory.path()), 0u);
  (void)RunDirectory::acquire(directory.path(), "new", 0).value();
  for (const auto& path : {elsewhere, live}) EXPECT_TRUE(fs::exists(path + "/rank0.store")) << path;
}

TEST(RunDirectory, TakesOverACrashedRunOfTheSameName) {
  TemporaryDirectory directory;
  make_leftover(directory, "run", our_lock());
  const auto run = RunDirectory::acquire(directory.path(), "run", 0).value();
  EXPECT_FALSE(fs::exists(run.store_path()));
}

TEST(RunDirectory, TakesOverItsRankWhileOthersOfTheRunLive) {
  TemporaryDirectory directory;
  const auto path = make_leftover(directory, "run", our_lock());
  const auto other_rank = RunDirectory::acquire(directory.path(), "run", 1).value();
  write_file(path + "/rank0.lock", our_lock());
  write_file(path + "/rank0.store", "old");
  const auto run = RunDirectory::acquire(directory.path(), "run", 0).value();
  EXPECT_FALSE(fs::exists(run.store_path()));
}

TEST(RunDirectory, DoesNotTakeOverFromAnotherMachine) {
  TemporaryDirectory directory;
  const auto path = make_leftover(directory, "run", lock_of("another-host", "another-boot"));
  const auto refused = RunDirectory::acquire(directory.path(), "run", 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_BUSY);
  EXPECT_THAT(refused.error().message, HasSubstr("process 4242 on another-host"));
  EXPECT_TRUE(fs::exists(path + "/rank0.store"));
}

// ---- What checkpoints refer to

constexpr std::uint32_t kStoreGrains = 16;

std::vector<StoreRef> store_ref(const std::string& directory, const std::string& opening) {
  return {{directory, "run", opening, 0, 0}};
}

// A store of kStoreGrains grains full of data, and a checkpoint in <directory>/saved/<name> that refers to `runs` of it.
struct KeptStore {
  KeptStore(const TemporaryDirectory& directory, const std::string& run, std::vector<GrainRun> runs)
      : path(make_leftover(directory, run, our_lock())), saved(directory / "saved/a") {
    const auto header = StoreHeader::of({run, "opening-1", 0, 0}, grain_offset(kStoreGrains));
    std::string content(reinterpret_cast<const char*>(&header), sizeof header);
    content.resize(grain_offset(kStoreGrains), 'x');
    write_file(store(), content);
    fs::create_directories(saved);
    const auto manifest = CheckpointHeader::of("id-1", 1);
    write_file(saved + "/rank0.manifest", {reinterpret_cast<const char*>(&manifest), sizeof manifest});
    struct stat status = {};
    EXPECT_EQ(::stat(saved.c_str(), &status), 0);
    EXPECT_TRUE(write_pin({pin_path(path, 0, "id-1"), "opening-1", {"id-1", saved + "/rank0.manifest", status.st_dev, {}, true}, runs}));
  }
  [[nodiscard]] std::string store() const { return path + "/rank0.store"; }
  std::string path;
  std::string saved;
};

std::uint64_t grains_of_file(const std::string& path) {
  struct stat status = {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return static_cast<std::uint64_t>(status.st_blocks) * 512 / kGrainBytes;
}

char byte_of_grain(const std::string& path, std::uint32_t grain) {
  std::ifstream file(path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(grain_offset(grain)));
  return static_cast<char>(file.get());
}

TEST(RunDirectory, KeepsOfALeftoverStoreWhatACheckpointRefersTo) {
  TemporaryDirectory directory;
  const KeptStore kept(directory, "old", {{3, 2}, {8, 1}});
  const std::uint64_t reclaimable = reclaimable_bytes(directory.path());
  EXPECT_NEAR(static_cast<double>(reclaimable), 13.0 * kGrainBytes, 1.5 * kGrainBytes);
  (void)RunDirectory::acquire(directory.path(), "new", 0).value();
  EXPECT_LE(grains_of_file(kept.store()), 4u);
  for (const std::uint32_t grain : {3u, 4u, 8u}) EXPECT_EQ(byte_of_grain(kept.store(), grain), 'x') << grain;
  for (const std::uint32_t grain : {0u, 2u, 5u, 9u, 15u}) EXPECT_EQ(byte_of_grain(kept.store(), grain), '\0') << grain;
  fs::remove_all(kept.saved);
  (void)RunDirectory::acquire(directory.path(), "new", 0).value();
  EXPECT_FALSE(fs::exists(kept.path));
}

TEST(RunDirectory, SetsAStoreAsideThatACheckpointRefersTo) {
  TemporaryDirectory directory;
  const KeptStore kept(directory, "run", {{3, 2}});
  {
    const auto run = RunDirectory::acquire(directory.path(), "run", 0).value();
    EXPECT_FALSE(fs::exists(run.store_path()));
    EXPECT_EQ(opening_of(kept_store_path(kept.path, 0, "opening-1")), "opening-1");
    EXPECT_TRUE(SavedStore::open(store_ref(kept.path, "opening-1")));
    EXPECT_EQ(SavedStore::open(store_ref(kept.path, "opening-2")).error().status, ORLOP_NOT_FOUND);
  }
  EXPECT_EQ(byte_of_grain(kept_store_path(kept.path, 0, "opening-1"), 4), 'x') << "also once that run has ended";
  fs::remove_all(kept.saved);
  (void)RunDirectory::acquire(directory.path(), "another", 0).value();
  EXPECT_FALSE(fs::exists(kept.path)) << "and not longer than its checkpoint";
}

TEST(RunDirectory, GivesBackAtItsEndWhatItWentOnFrom) {
  TemporaryDirectory directory;
  const KeptStore kept(directory, "old", {{3, 2}});
  {
    const auto run = RunDirectory::acquire(directory.path(), "new", 0).value();
    fs::remove_all(kept.saved);
  }
  EXPECT_TRUE(fs::is_empty(directory / "saved"));
  EXPECT_FALSE(fs::exists(directory / "orlop"));
}

TEST(RunDirectory, GivesNothingUpWhereAPinCannotBeRead) {
  TemporaryDirectory directory;
  const KeptStore kept(directory, "old", {{3, 2}});
  write_file(pin_path(kept.path, 0, "id-1"), "{ half a p");
  (void)RunDirectory::acquire(directory.path(), "new", 0).value();
  EXPECT_EQ(byte_of_grain(kept.store(), 12), 'x');
}

TEST(RunDirectory, ACheckpointOnAFilesystemThatIsNotThereCounts) {
  TemporaryDirectory directory;
  const KeptStore kept(directory, "old", {{3, 2}});
  ASSERT_TRUE(write_pin({pin_path(kept.path, 0, "id-1"), "opening-1", {"id-1", "/proc/no/such/rank0.manifest", 12345, {}, true}, {{3, 2}}}));
  (void)RunDirectory::acquire(directory.path(), "new", 0).value();
  EXPECT_EQ(byte_of_grain(kept.store(), 4), 'x');
}

TEST(RunDirectory, RefusesNamesThatAreNoRunIds) {
  TemporaryDirectory directory;
  for (const std::string& name : {std::string(), std::string("."), std::string(".."), std::string("a/b"),
                                  std::string("a b"), std::string(201, 'a')}) {
    const auto refused = RunDirectory::acquire(directory.path(), name, 0);
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().status, ORLOP_INVALID_ARGUMENT);
  }
  EXPECT_TRUE(directory.is_empty());
}

// ---- Directories that will not do

TEST(CheckDirectory, NamesWhatIsMissingOrNoDirectory) {
  TemporaryDirectory directory;
  const auto missing = check_directory(directory / "missing");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().status, ORLOP_NOT_FOUND);
  EXPECT_THAT(missing.error().message, AllOf(HasSubstr(directory / "missing"), HasSubstr("No such file")));
  write_file(directory / "file", "x");
  for (const char* path : {"file", "file/below"}) EXPECT_EQ(check_directory(directory / path).error().status, ORLOP_NOT_FOUND);
  EXPECT_TRUE(check_directory(directory.path()));
}

// Runs `body` in a child, where privileges and mounts can be changed; its exit code.
template <typename Body>
int in_child(const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

// 0 when `path` is refused for want of permission, with a sentence that has `why`.
int refusal_of(const std::string& path, const std::string& why) {
  const auto refused = RunDirectory::acquire(path, "run", 0);
  if (refused || refused.error().status != ORLOP_NO_PERMISSION) return 1;
  return refused.error().message.find(why) != std::string::npos ? 0 : 2;
}

TEST(CheckDirectory, NamesADirectoryThatMayNotBeWritten) {
  TemporaryDirectory directory;
  fs::create_directory(directory / "closed");
  fs::permissions(directory.path(), fs::perms(0755));
  fs::permissions(directory / "closed", fs::perms(0555));
  EXPECT_EQ(in_child([&] {
              if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return 3;
              return refusal_of(directory / "closed", "Permission denied");
            }),
            0);
}

TEST(CheckDirectory, NamesADirectoryOnAReadOnlyFilesystem) {
  TemporaryDirectory directory;
  constexpr int kNotAllowed = 77;
  const int outcome = in_child([&] {
    const int namespaces = ::geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER;
    if (::unshare(namespaces) != 0) return kNotAllowed;
    (void)::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    const std::string path = directory.path();
    if (::mount(path.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0) return kNotAllowed;
    if (::mount(nullptr, path.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) != 0) return kNotAllowed;
    return refusal_of(path, "Read-only file system");
  });
  if (outcome == kNotAllowed) GTEST_SKIP() << "this system allows no mount namespaces";
  EXPECT_EQ(outcome, 0);
}

}  // namespace
}  // namespace orlop::swap
