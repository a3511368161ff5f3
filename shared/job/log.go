package job

import "strconv"

// LogFile is the name of the file in an attempt's directory that holds a stream,
// stdout or stderr, of a rank; jobs on one node have only rank 0.
func LogFile(stream string, rank int) string {
	if rank == 0 {
		return stream + ".log"
	}
	return stream + "." + strconv.Itoa(rank) + ".log"
}
