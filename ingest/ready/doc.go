// Package ready finds out when a service is ready, in the ways in which services report it
// to their supervisors: to systemd (sd_notify(3)), or with a line on a descriptor, as to
// s6. It passes that to a stream.
//
// It does not probe a service: only the service itself knows whether it can answer.
package ready
