#include "numa/locality.hpp"

#include <gtest/gtest.h>

#include "fixture_root.hpp"

namespace orlop::numa {
namespace {

class Locality : public FixtureRoot {
 protected:
  Locality() {
    add_drive("nvme0n1", "pci0000:3a/0000:3b:00.0", 1);
    add_drive("nvme1n1", "pci0000:5d/0000:5e:00.0", 0);
    write("/sys/devices/pci0000:3a/0000:3b:00.0/nvme/nvme0n1/nvme0n1p2/partition", "2\n");
    link("/sys/class/block/nvme0n1p2", "/sys/devices/pci0000:3a/0000:3b:00.0/nvme/nvme0n1/nvme0n1p2");
    link("/sys/bus/pci/devices/0000:3b:00.0", "/sys/devices/pci0000:3a/0000:3b:00.0");
    write("/sys/devices/virtual/block/md127/size", "1\n");
    link("/sys/devices/virtual/block/md127/slaves/nvme0n1",
         "/sys/devices/pci0000:3a/0000:3b:00.0/nvme/nvme0n1");
    link("/sys/class/block/md127", "/sys/devices/virtual/block/md127");
  }

  void add_drive(const std::string& name, const std::string& controller, int node) {
    write("/sys/devices/" + controller + "/numa_node", std::to_string(node) + "\n");
    write("/sys/devices/" + controller + "/nvme/" + name + "/size", "1\n");
    link("/sys/class/block/" + name, "/sys/devices/" + controller + "/nvme/" + name);
  }
};

TEST_F(Locality, ADriveHangsWhereItsControllerDoes) {
  EXPECT_EQ(os_node_of_block_device(root(), "nvme0n1"), 1);
  EXPECT_EQ(os_node_of_block_device(root(), "/dev/nvme1n1"), 0);
}

TEST_F(Locality, APartitionHangsWhereItsDriveDoes) {
  EXPECT_EQ(os_node_of_block_device(root(), "nvme0n1p2"), 1);
}

TEST_F(Locality, AStackedDeviceHangsWhereItsFirstMemberDoes) {
  EXPECT_EQ(os_node_of_block_device(root(), "md127"), 1);
}

TEST_F(Locality, AnUnknownDeviceHangsNowhere) {
  for (const char* name : {"", ".", "..", "nvme9n1", "/dev/", "../../../etc"}) {
    EXPECT_FALSE(os_node_of_block_device(root(), name)) << name;
  }
}

TEST_F(Locality, FirmwareThatDoesNotSayIsNoNode) {
  add_drive("vda", "virtio0", -1);
  EXPECT_FALSE(os_node_of_block_device(root(), "vda"));
}

TEST_F(Locality, PciAddressesAreFoundInEitherCase) {
  EXPECT_EQ(os_node_of_pci(root(), "0000:3b:00.0"), 1);
  EXPECT_EQ(os_node_of_pci(root(), "0000:3B:00.0"), 1);
  EXPECT_FALSE(os_node_of_pci(root(), "0000:ff:00.0"));
  EXPECT_FALSE(os_node_of_pci(root(), "../0000:3b:00.0"));
}

}  // namespace
}  // namespace orlop::numa
