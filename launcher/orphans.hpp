// Processes that ranks leave behind. The launcher is their subreaper, so they become its children.
#pragma once

#include <sys/types.h>

#include <vector>

namespace weft::inline v0::launcher {

/// Makes this process the one that orphaned descendants fall to.
void become_subreaper();

/// Whether this process has any child, ended or not.
bool has_children();

/// The children of this process.
std::vector<pid_t> children();

/// Kills and reaps every child but `spared`, and what falls to this process by that, for at most
/// `seconds`. Returns those that are still there.
std::vector<pid_t> kill_children(const std::vector<pid_t>& spared, double seconds);

}  // namespace weft::inline v0::launcher
