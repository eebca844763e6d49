package journal

import (
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// Identifier is the SYSLOG_IDENTIFIER of every entry.
const Identifier = "pika-cloud-lifecycle"

// A field is a field of a journal entry that this package sends or reads.
type field uint8

const (
	fieldMessageID field = iota
	fieldPriority
	fieldIdentifier
	fieldEventsPath
	fieldMessage
	fieldKind
	fieldOutcome
	fieldEvent
	fieldResult
	fieldReject
	fieldMissed
	// journald sets these itself, so a sender cannot forge them
	// (systemd.journal-fields(7), "Trusted Journal Fields").
	fieldUID
	fieldMachineID
	endOfFields
)

// fieldNames are the names of the fields; docs/journal.md describes them. An entry has few:
// each field costs journald 4 to 5 percent of its time for an entry. So the artifact is in
// one field, and no field repeats a part of it unless people or the catalog need it.
var fieldNames = [endOfFields]string{
	fieldMessageID:  "MESSAGE_ID",
	fieldPriority:   "PRIORITY",
	fieldIdentifier: "SYSLOG_IDENTIFIER",
	fieldEventsPath: "PIKA_EVENTS_PATH",
	fieldMessage:    "MESSAGE",
	fieldKind:       "PIKA_KIND",
	fieldOutcome:    "PIKA_OUTCOME",
	fieldEvent:      "PIKA_EVENT",
	fieldResult:     "PIKA_RESULT",
	fieldReject:     "PIKA_REJECT",
	fieldMissed:     "PIKA_MISSED",
	fieldUID:        "_UID",
	fieldMachineID:  "_MACHINE_ID",
}

// The MESSAGE_IDs. They are random, and must never change, because catalogs and queries
// contain them.
var (
	eventIDs = map[artifact.State]string{
		artifact.Requested:    "66fb2d5fd0464e5a87de2c884e42d01b",
		artifact.Provisioning: "21a7ec1e2d494653970b39713d812121",
		artifact.Booted:       "09cc2d7ac9bb4002b60bd3d1cd6710b9",
		artifact.Starting:     "2471354b9dd84c4d85aef226483a9291",
		artifact.Ready:        "7e7929a6816c44579adeca16394df20e",
		artifact.Completed:    "87e9bd96030b4c56aa4d96b5631897e9",
		artifact.Failed:       "7321d8680ead41288fc8eebaf692434c",
		artifact.Unreachable:  "8d84f5e4b42740aca8bdf884165354a4",
		artifact.Stopped:      "4367b3f231e74d9d8e9b78ff1e2df533",
		artifact.Destroyed:    "0453c24beebb443b8675b9776bce5bc1",
	}
	resultIDs = map[artifact.Outcome]string{
		artifact.OutcomeCompleted: "27e9217d83964ad08e4a69fbe23b2d4d",
		artifact.OutcomeFailed:    "6f92f71ade1b4d23b7886f6999dda552",
	}
)

const (
	rejectID = "0ee4e0719bd64192a0e41ba928fe5a93" // a rejected line
	missedID = "5dbab519f2714037bc0827d9f724dc8c" // the number of entries that the journal missed
)

// isIDOf reports whether ids contains id.
func isIDOf[K comparable](ids map[K]string, id string) bool {
	for _, known := range ids {
		if known == id {
			return true
		}
	}
	return false
}
