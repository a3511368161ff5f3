package wire

// Submitted is what became of one document of a list of jobs.
type Submitted struct {
	ID      string   `json:"id"`                // of the job; "" where a document that was refused names none
	Status  int      `json:"status"`            // what the document alone would be answered with: 202, or that of the problem
	Problem *Problem `json:"problem,omitempty"` // why the document was refused
}
