package ingest

import "github.com/sledtools/pika-cloud-lifecycle/writer/artifact"

// A Commit is what one commit has made durable. One that fails in part and is
// tried again is told in parts, each thing once.
type Commit struct {
	Events  []byte           // lines of events.jsonl
	Rejects []byte           // lines as in rejected.jsonl, those beyond its limit too
	Result  *artifact.Result // nil if none
	Status  *artifact.Status // nil if none
	Ready   bool             // a transition to ready led to Status
}

// A Follower hears of each commit, with the lock released and what is settled
// acknowledged. The call holds the stream up, so it must not block; what it is
// given is valid until it returns.
type Follower interface {
	Committed(c *Commit)
}

// tell tells the followers what has been committed since the last time.
func (r *run) tell() {
	c := &r.committed
	if len(c.Events) == 0 && len(c.Rejects) == 0 && c.Result == nil && c.Status == nil {
		return
	}
	for _, f := range r.Followers {
		f.Committed(c)
	}
	*c = Commit{Rejects: c.Rejects[:0]}
}
