// Processes as the system shows them: those that ranks leave behind (the launcher is their
// subreaper, so they become its children), and those that are about to end.
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

/// Whether `pid` has begun to end, or is gone: its files may be closed already, but nobody has been
/// told yet how it ended.
bool is_exiting(pid_t pid);

/// Kills and reaps every child but `spared`, and what falls to this process by that, for at most
/// `seconds`. Returns those that are still there.
std::vector<pid_t> kill_children(const std::vector<pid_t>& spared, double seconds);

}  // namespace weft::inline v0::launcher
