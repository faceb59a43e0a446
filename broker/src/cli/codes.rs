//! The errors that a person meets at the command line, each with a code that never changes, and
//! `bateau explain CODE`.
//!
//! ```text
//!   error[E1001]: orderz: no such topic        title: what is wrong with what
//!     cause  the cluster has no topic of this name; the nearest is orders
//!     fix    bateau topic create orderz
//!     why    bateau explain E1001              the text below
//! ```
//!
//! E01 is reaching a broker, E02 its certificate, E03 contexts, E05 nodes and copies, E10 topics
//! and records, E11 groups, E13 the HTTP door, E20 test control.
//!
//! Invariant: a code is never given twice and never changes its exit code.
//!
//! Absent on purpose: errors of a start and of a configuration file, whose lines name key, value
//! and origin already.

use super::fault::Fault;
use super::output::{Output, print};
use crate::exit::Exit;
use serde_json::json;

pub(super) const EXAMPLES: &str = "\
Examples:
  bateau explain E1001
  bateau explain";

/// One error of the catalogue.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Code {
    /// `E` and four digits.
    pub(super) id: &'static str,
    /// What the process ends with.
    pub(super) exit: Exit,
    /// What is wrong, without the name that it is wrong with.
    pub(super) title: &'static str,
    /// Why that happens.
    pub(super) cause: &'static str,
    /// What to do, a command where there is one.
    pub(super) fix: &'static str,
    /// Why it is an error at all.
    pub(super) why: &'static str,
}

macro_rules! catalogue {
    ($($name:ident = $id:literal, $exit:ident, $title:literal, cause $cause:literal,
       fix $fix:literal, why $why:literal;)*) => {
        $(
            #[doc = $title]
            pub(super) static $name: Code = Code {
                id: $id, exit: Exit::$exit, title: $title, cause: $cause, fix: $fix, why: $why,
            };
        )*
        /// Every code, in order.
        static CATALOGUE: &[&Code] = &[$(&$name),*];
    };
}

catalogue! {
    UNREACHABLE = "E0101", Unreachable, "no broker answers",
        cause "nothing listens at that address, or a firewall drops UDP on the way",
        fix "start one with `bateau dev`, or name another with --broker HOST:PORT",
        why "Commands speak QUIC to the broker's native door, by UDP. Nobody there answered the \
             handshake in time. The Kafka port (9092, TCP) is another door.";
    UNRESOLVED = "E0102", Unreachable, "the name of the broker cannot be resolved",
        cause "this computer knows no address for the name",
        fix "try the IP address, as in --broker 127.0.0.1:9443",
        why "The name goes to the resolver of this computer, and the answer was no address.";
    TIMED_OUT = "E0104", TimedOut, "no answer in time",
        cause "the broker or the network is slow, or a partition has no leader at the moment",
        fix "look with `bateau status`, and allow more with --timeout 60s",
        why "One deadline covers everything that a command does, with all its retries. What was \
             sent before may have taken effect.";
    VERSIONS = "E0105", Refused, "the broker speaks no version that this command speaks",
        cause "one of the two is much older than the other",
        fix "compare `bateau version` with the broker's, and update the older one",
        why "Both sides say which versions of the native protocol they speak, and use the highest \
             common one. There was none.";
    DISCONNECTED = "E0106", Unreachable, "the connection was lost",
        cause "the broker stopped, or the network broke",
        fix "look with `bateau status`, then repeat the command",
        why "The connection did not come back before the deadline. Commands that only read can be \
             repeated at will.";
    CERTIFICATE = "E0201", Refused, "the certificate is not the expected one",
        cause "another broker answers at this address, or the broker got a new key",
        fix "if that is meant to be so: `bateau dev` writes its new key into the context",
        why "A connection is only made to the key that the context or the address names, or to \
             one that a named authority vouches for. Otherwise somebody between could read and \
             change everything.";
    UNPINNED = "E0202", Refused, "nothing says which certificate to expect",
        cause "no context has this address, and the address names no pin",
        fix "write the address as HOST:PORT?pin=sha256:…, with the pin that the broker prints",
        why "The first connection is as much worth protecting as the second: a certificate that \
             is only looked at is not checked. `bateau dev` leaves its pin in the context `dev`.";
    OWN_CERTIFICATE = "E0203", Usage, "the certificate to show to the broker cannot be used",
        cause "a file is missing, is not PEM, has another certificate's key, or others may read it",
        fix "name a certificate and its own key with --client-cert FILE --client-key FILE",
        why "A broker with `tls.client_ca` demands a certificate of its clients. The flags, or \
             `certificate` and `key` of the context, name the chain and the key in PEM. Nobody \
             but the key's owner and group may read it.";
    NOT_ADMITTED = "E0204", Refused, "the broker demands another certificate of its clients",
        cause "none was shown, or one that no authority of the broker's vouches for",
        fix "show one with --client-cert FILE --client-key FILE; `tls.client_ca` of the broker \
             names its authorities",
        why "With `tls.client_ca` in its configuration a broker serves only clients with a \
             certificate of those authorities that is valid now and meant for clients (extended \
             key usage clientAuth, or no extended key usage at all).";
    AUTHORITIES = "E0205", Usage, "the authorities that may vouch for the broker cannot be used",
        cause "the file is missing, or has no certificate in PEM",
        fix "name a file of certificates with --ca FILE, or the broker's key by ?pin=sha256:…",
        why "A broker's certificate is believed when an authority of --ca, or of `ca` in the \
             context, has signed it for the name that was connected to. The system's own \
             authorities are not asked.";
    NO_CONTEXT = "E0301", NotFoundOrHeld, "no such context",
        cause "the context file has no entry of this name",
        fix "bateau ctx list",
        why "A context is a name for a broker's address and key. BATEAU_CONTEXT and `bateau ctx \
             use` choose one; --broker goes around them.";
    CONTEXT_FILE = "E0302", Usage, "the context file cannot be used",
        cause "it cannot be read or written, or is not what `bateau` writes",
        fix "mend or remove the file; `bateau dev` writes its entry anew",
        why "The file says which key to trust. A file that is half understood is not obeyed.";
    NODE_EXISTS = "E0501", Refused, "the node is a member already",
        cause "it has joined before, or another node has this id",
        fix "bateau node list; choose a free id, or `bateau node replace ID` for a lost directory",
        why "A node id names one node. A second one of that id would answer for the first.";
    UNKNOWN_NODE = "E0502", NotFoundOrHeld, "no such node",
        cause "the cluster has no member of this id, and expects none",
        fix "bateau node list",
        why "Nodes are named by their node.id. `bateau node add ID` lets a new one come.";
    NODE_ALIVE = "E0503", Refused, "the node is alive",
        cause "its process answers the others, so nothing of it is lost",
        fix "stop it first, if its directory is to be given up",
        why "Replacing a node voids every copy that it holds. What lives may hold the newest.";
    NODE_NEEDED = "E0504", Refused, "the cluster cannot do without the node",
        cause "it is the only node, or a partition would lose its majority or its last copy",
        fix "start, replace or remove dead nodes first, or add one that can take the copies",
        why "A partition is written while a majority of its copies lives. What is refused here \
             would stop it, or lose what was acknowledged.";
    NODE_STUCK = "E0505", Refused, "what the node was told cannot come to its end as things are",
        cause "nobody else who is alive can take what it has",
        fix "mend what the cause names, and it goes on by itself; `bateau node drain ID --undo` \
             takes it back",
        why "The command waits only for what can happen. What the node was told stays told.";
    NODE_LATE = "E0506", TimedOut, "it has not come to its end in time",
        cause "copying takes its time, or a node is slow or away",
        fix "it goes on by itself; look with `bateau node list`, or repeat with a longer --wait",
        why "The cluster was told, and goes on whether a command waits for it or not.";
    ALONE_REFUSED = "E0507", Refused, "the node cannot go on alone",
        cause "its copy of the metadata is missing, damaged or without a vote, or it needs nobody \
               and nothing that could go on is damaged",
        fix "choose another node that is left, or restore a copy of its directory",
        why "`bateau node unsafe-recover` builds on the metadata of one node. A copy that never \
             had a vote may lack what the cluster decided long ago.";
    UNKNOWN_TOPIC = "E1001", NotFoundOrHeld, "no such topic",
        cause "the cluster has no topic of this name",
        fix "bateau topic list",
        why "Commands do not create what they only read. `bateau produce` creates a topic on \
             first use where the broker's topics.auto_create allows it.";
    TOPIC_EXISTS = "E1002", Refused, "the topic exists already",
        cause "somebody created it before",
        fix "bateau topic create --if-not-exists accepts that",
        why "Creating twice is usually a mistake in a name, so it is not passed over in silence.";
    TOPIC_REFUSED = "E1003", Refused, "the broker refuses the topic as it was described",
        cause "a name, a number or a config is not allowed",
        fix "change what the message names",
        why "Names have up to 249 letters, digits, dots, dashes and underscores. A config that \
             this broker does not enforce is refused instead of stored.";
    UNKNOWN_PARTITION = "E1004", NotFoundOrHeld, "no such partition",
        cause "the topic has fewer partitions",
        fix "bateau topic describe TOPIC",
        why "Partitions are numbered from 0 to one less than their count.";
    RECORD_TOO_LARGE = "E1005", Refused, "the record is too large",
        cause "it is larger than the topic's max.message.bytes, or than a command takes at all",
        fix "bateau topic alter TOPIC -c max.message.bytes=…",
        why "A limit keeps one record from taking the memory of everybody else.";
    RECORD_REFUSED = "E1006", Refused, "the broker refuses the record",
        cause "the topic demands something that the record does not have",
        fix "bateau topic describe TOPIC shows its configs",
        why "A record that breaks its topic's rules is refused before anything of it is stored.";
    OUTCOME_UNKNOWN = "E1007", TimedOut, "the record may or may not have been written",
        cause "it was sent, and the answer did not come in time",
        fix "look at the end of the topic before sending it again",
        why "After the deadline nobody knows whether the broker has it. A second run of the \
             command would be a second record.";
    OUT_OF_RANGE = "E1008", NotFoundOrHeld, "the offset is not there any more",
        cause "retention removed it while it was being read",
        fix "begin at what is there: --from start",
        why "Going on at another offset would leave out records in silence.";
    BAD_INPUT = "E1009", Failed, "a line of the input is no record",
        cause "the input does not have the shape that the flags announce",
        fix "bateau produce --help shows the shapes",
        why "A line that is half understood would become a wrong record. Lines before it have \
             been written.";
    UNAVAILABLE = "E1010", Failed, "the partition takes no request at the moment",
        cause "it has no leader, its disk is full, or part of its data is damaged",
        fix "bateau status, and the broker's log",
        why "The broker answered, and said that this partition cannot serve now. Retries went on \
             until the deadline.";
    REFUSED = "E1011", Refused, "the broker refuses the request",
        cause "it is not allowed, or not possible with what is there",
        fix "change what the message names",
        why "The broker answered with an error that has no code of its own here.";
    UNKNOWN_GROUP = "E1101", NotFoundOrHeld, "no such group",
        cause "no group of this name has members or committed offsets",
        fix "bateau group list",
        why "A group comes into being when its first member joins or its first offset is \
             committed.";
    GROUP_IN_USE = "E1102", Refused, "the group has members",
        cause "a consumer of this group is running",
        fix "stop its consumers, or wait until their sessions end, then repeat",
        why "A running consumer would overwrite the change with its own position at its next \
             commit.";
    GROUP_REFUSED = "E1103", Refused, "the group refuses this member",
        cause "its members share no assignor with this one, or it was thrown out",
        fix "bateau group describe GROUP shows the members and their assignor",
        why "All members of a group agree on one assignor, and one that was silent for too long \
             must join again.";
    ABORTED = "E1199", Failed, "nothing was done",
        cause "what was typed is not the name",
        fix "repeat the command and type the name, or say --yes",
        why "What this command destroys cannot be brought back.";
    HTTP_NO_ROUTE = "E1301", NotFoundOrHeld, "there is nothing at this path of the HTTP door",
        cause "the path is misspelt, or belongs to test control, which is off",
        fix "GET /livez, /readyz or /startupz; start `bateau dev --test-control` for /test/v1/…",
        why "Paths are compared as they come: without decoding and without a slash at the end.";
    HTTP_METHOD = "E1302", Usage, "the path does not take this method",
        cause "reading is GET, changing is POST",
        fix "use a method of the answer's Allow header",
        why "A method that does something else than its name says would surprise every proxy.";
    HTTP_FOREIGN = "E1303", Refused, "the HTTP door on loopback was asked by a stranger's name",
        cause "the Host header is not localhost, or a page of another origin changes something",
        fix "ask for localhost or 127.0.0.1, from a program or from a page on localhost",
        why "A page of a stranger can make a browser send requests to this machine (DNS \
             rebinding). It cannot forge the names that are in them, so those are checked.";
    HTTP_HOST = "E1304", Usage, "the request names no host, or two",
        cause "HTTP/1.1 wants one Host header",
        fix "send one Host header",
        why "Two programs that read two different hosts in one request can be set against each \
             other.";
    HTTP_TOO_LARGE = "E1305", Refused, "the body of the request is too long",
        cause "a body may have 1 MiB",
        fix "send less",
        why "A body is read whole before anything is done, so it has a limit.";
    HTTP_TOO_SLOW = "E1306", TimedOut, "the request took too long",
        cause "its body did not come in time, or the node did not get on with it",
        fix "look whether it has happened, then repeat",
        why "Every request ends, so that no connection is held for ever.";
    HTTP_INPUT = "E1307", Usage, "the body or the query is not what the route takes",
        cause "a field is missing, unknown or out of its range, or the body is not JSON",
        fix "send Content-Type: application/json and the fields that docs/http.md names",
        why "A field that is not understood would be a setting that is not obeyed.";
    TEST_CONTROL_SERVE = "E2001", Usage, "test control is for dev alone",
        cause "serve was told --test-control",
        fix "bateau dev --test-control",
        why "Whoever reaches these routes can move the clock and drop records.";
    TEST_CONTROL_REMOTE = "E2002", Refused, "test control was asked from another machine",
        cause "the HTTP door listens beyond loopback, and the caller is not on this machine",
        fix "run the test where the broker runs",
        why "Whoever reaches these routes can move the clock and drop records.";
    TEST_CONTROL_STOPPED = "E2003", Failed, "the node does not run at present",
        cause "it starts, restarts or stops",
        fix "wait until GET /readyz answers 200, then repeat",
        why "What a test asks for is done by a node that runs.";
    TEST_CONTROL_REFUSED = "E2004", Refused, "the node refuses what the test wants",
        cause "the topic exists already, too many faults are planned, or its store cannot crash",
        fix "change what the message names",
        why "A control that did something else would make a test pass for the wrong reason.";
}

/// Whether the catalogue has this code, for what answers with codes elsewhere.
#[cfg(test)]
pub(crate) fn is_known(id: &str) -> bool {
    CATALOGUE.iter().any(|code| code.id == id)
}

/// `bateau explain [CODE]`.
pub(super) fn run(id: Option<&str>, output: Output) -> Result<(), Fault> {
    let shown = match id {
        None => CATALOGUE,
        Some(id) => match CATALOGUE.iter().position(|code| code.id.eq_ignore_ascii_case(id)) {
            Some(place) => CATALOGUE.get(place..=place).unwrap_or_default(),
            None => {
                let message = format!("{id}: no such code; bateau explain lists them");
                return Err(Fault::plain(Exit::NotFoundOrHeld, message));
            }
        },
    };
    let text: String = shown.iter().map(|code| code.shown(output, id.is_some())).collect();
    print(&text)
}

impl Code {
    fn shown(&self, output: Output, whole: bool) -> String {
        let Self { id, exit, title, cause, fix, why } = self;
        match output {
            Output::Json => {
                let object = json!({
                    "code": id, "exit": *exit as u8, "title": title, "cause": cause, "fix": fix,
                    "why": why,
                });
                format!("{object}\n")
            }
            Output::Table if whole => {
                format!("{id}  {title}\n  cause  {cause}\n  fix    {fix}\n  why    {why}\n")
            }
            Output::Table => format!("{id}  {title}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_given_once() {
        for pair in CATALOGUE.windows(2) {
            assert!(pair[0].id < pair[1].id, "{} then {}", pair[0].id, pair[1].id);
        }
    }

    #[test]
    fn every_code_has_its_four_texts_as_phrases() {
        for code in CATALOGUE {
            let digits = code.id.strip_prefix('E').unwrap();
            assert!(digits.len() == 4 && digits.parse::<u32>().is_ok(), "{}", code.id);
            for text in [code.title, code.cause, code.fix] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text}", code.id);
            }
            assert!(code.why.ends_with('.'), "{}: the explanation is sentences", code.id);
        }
    }

    #[test]
    fn what_the_http_door_answers_with_is_explained() {
        let source = include_str!("../doors/http/answer.rs");
        let quoted = source.split('"').filter(|text| text.len() == 5 && text.starts_with('E'));
        let codes: Vec<&str> =
            quoted.filter(|text| text.bytes().skip(1).all(|byte| byte.is_ascii_digit())).collect();
        assert!(codes.len() > 8, "{codes:?}");
        for id in codes {
            assert!(CATALOGUE.iter().any(|code| code.id == id), "{id} is not explained");
        }
    }

    #[test]
    fn no_error_ends_with_the_code_of_success() {
        assert!(CATALOGUE.iter().all(|code| code.exit != Exit::Done));
    }
}
