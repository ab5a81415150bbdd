// One rank of the contender Open MPI of bench/comm; started by mpirun.
#include <mpi.h>

#include <cstdio>
#include <exception>
#include <vector>

#include <weft/bench/contender.hpp>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  std::vector<float> in, out;
  try {
    weft::bench::serve(argc > 1 ? argv[1] : "", rank, [&](const weft::bench::Order& order) {
      if (order.operation == "barrier")
        return weft::bench::median_time(
            order.iterations, [] {}, [] { MPI_Barrier(MPI_COMM_WORLD); });
      const size_t count = order.bytes / sizeof(float);
      in.resize(count);
      out.resize(count);
      return weft::bench::median_time(
          order.iterations, [&] { std::fill(in.begin(), in.end(), 1e-3f); },
          [&] {
            MPI_Allreduce(in.data(), out.data(), static_cast<int>(count), MPI_FLOAT, MPI_SUM,
                          MPI_COMM_WORLD);
          });
    });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mpi_rank: %s\n", error.what());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  MPI_Finalize();
  return 0;
}
