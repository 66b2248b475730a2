#include "communicator_contract.hpp"

namespace orlop::comm {

INSTANTIATE_TEST_SUITE_P(Self, CommunicatorContract,
                         testing::Values(World{"self", 1,
                                               [](const auto& body) {
                                                 const auto comm = make_self_communicator();
                                                 body(*comm);
                                               }}),
                         name_of_world);

}  // namespace orlop::comm
