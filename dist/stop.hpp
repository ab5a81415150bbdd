// Ending a training loop because somebody asked for it from outside.
#pragma once

#include <weft/core/base/api.hpp>
#include <weft/dist/comm/group.hpp>

namespace weft::inline v0::dist {

/// Whether any rank of `group` has been asked to stop, by SIGTERM, SIGUSR1 or SIGUSR2 (a
/// scheduler's warning before its time limit): the same on all ranks at the same call, and true
/// from then on. A collective, of one byte; call it once a step and leave the loop.
///
/// From the first call on these signals ask instead of ending the process. A handler that the
/// program has for one of them still runs. The same signal a second time does what it did before.
/// Throws as a collective.
WEFT_API bool stop_requested(const Group& group);

}  // namespace weft::inline v0::dist
