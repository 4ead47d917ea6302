//! [`NameServer`], which answers as it is told, over UDP and TCP.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::time::Instant;

/// What a name server says to one type of question.
#[derive(Clone, Debug)]
pub enum Says {
    /// These addresses.
    Addresses(Vec<IpAddr>),
    /// The name has none of them.
    Nothing,
    /// This error code.
    Code(u8),
    /// What is no answer.
    Garbage,
    /// Not a word.
    Silence,
    /// By UDP only that the answer is longer, by TCP these addresses.
    Longer(Vec<IpAddr>),
}

/// The code of a name server that can't answer.
pub const SERVFAIL: u8 = 2;
/// The code for a name that there is not.
pub const NXDOMAIN: u8 = 3;

/// Types of questions.
const A: u8 = 1;
const AAAA: u8 = 28;
const SRV: u8 = 33;

/// Who offers a service: priority, weight, port and host.
pub type Offer = (u16, u16, u16, &'static str);

/// A question for addresses that was asked.
#[derive(Clone, Debug)]
pub struct NameQuestion {
    /// Of this name.
    pub name: String,
    /// For those of IPv6.
    pub is_v6: bool,
    /// By TCP.
    pub by_tcp: bool,
    /// When it came.
    pub at: Instant,
}

/// A name server that knows whatever name it is asked for.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<NameAnswers>,
}

#[derive(Debug)]
struct NameAnswers {
    /// To questions for IPv4 and for IPv6, and for how many seconds that is good.
    says: Mutex<(Says, Says, u32)>,
    /// To questions for a service.
    offers: Mutex<Vec<Offer>>,
    asked: Mutex<Vec<NameQuestion>>,
    has_ended: AtomicBool,
}

/// The address of this machine that ends in this number.
pub fn local(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

impl NameServer {
    /// One on a port of its own, which says this to questions for IPv4 and for IPv6; that is good
    /// for so many seconds.
    pub fn start(v4: Says, v6: Says, seconds: u32) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::on(any, (v4, v6, seconds)).expect("a port")
    }

    /// The same at this address.
    ///
    /// # Errors
    /// It can't be had.
    pub fn on(address: SocketAddr, says: (Says, Says, u32)) -> io::Result<Self> {
        let tcp = TcpListener::bind(address)?;
        let address = tcp.local_addr()?;
        let udp = UdpSocket::bind(address)?;
        let shared = Arc::new(NameAnswers {
            says: Mutex::new(says),
            offers: Mutex::default(),
            asked: Mutex::default(),
            has_ended: AtomicBool::new(false),
        });
        let of_udp = shared.clone();
        thread::spawn(move || of_udp.serve_udp(&udp));
        let of_tcp = shared.clone();
        thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                if of_tcp.has_ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = of_tcp.clone();
                thread::spawn(move || shared.serve_tcp(stream));
            }
        });
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it says this.
    pub fn says(&self, v4: Says, v6: Says) {
        let mut says = self.shared.says.lock().unwrap_or_else(PoisonError::into_inner);
        (says.0, says.1) = (v4, v6);
    }

    /// From now on these offer each service.
    pub fn offers(&self, offers: &[Offer]) {
        *self.shared.offers.lock().unwrap_or_else(PoisonError::into_inner) = offers.to_vec();
    }

    /// The questions for addresses so far.
    pub fn asked(&self) -> Vec<NameQuestion> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::SeqCst);
        // Wakes it up.
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.send_to(&[], self.address)).ok();
        TcpStream::connect(self.address).ok();
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl NameAnswers {
    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if self.has_ended.load(Ordering::SeqCst) {
                return;
            }
            if let Some(answer) = self.answer(&buffer[..length], false) {
                socket.send_to(&answer, from).ok();
            }
        }
    }

    fn serve_tcp(&self, mut stream: TcpStream) {
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            if stream.read_exact(&mut query).is_err() {
                return;
            }
            let Some(answer) = self.answer(&query, true) else { return };
            let length = u16::try_from(answer.len()).expect("a short one").to_be_bytes();
            if stream.write_all(&[&length[..], &answer].concat()).is_err() {
                return;
            }
        }
    }

    /// `None`: it says nothing.
    fn answer(&self, query: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        let mut labels = Vec::new();
        let mut at = 12;
        while query[at] != 0 {
            let end = at + 1 + usize::from(query[at]);
            labels.push(String::from_utf8_lossy(&query[at + 1..end]).into_owned());
            at = end;
        }
        let question = &query[12..at + 5];
        let is_v6 = match query[at + 2] {
            A => false,
            AAAA => true,
            SRV => {
                let offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner).clone();
                return Some(self.offered(&offers, query, question));
            }
            _ => return Some(self.offered(&[], query, question)),
        };
        let name = labels.join(".");
        let asked = NameQuestion { name, is_v6, by_tcp, at: Instant::now() };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        let (v4, v6, seconds) = self.says.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (addresses, code, is_cut) = match if is_v6 { v6 } else { v4 } {
            Says::Addresses(addresses) => (addresses, 0, false),
            Says::Nothing => (Vec::new(), 0, false),
            Says::Code(code) => (Vec::new(), code, false),
            Says::Garbage => return Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
            Says::Silence => return None,
            Says::Longer(addresses) if by_tcp => (addresses, 0, false),
            Says::Longer(_) => (Vec::new(), 0, true),
        };
        // An answer to a question that wanted recursion, which was given.
        let flags = [0x81 | if is_cut { 2 } else { 0 }, 0x80 | code];
        let count = u16::try_from(addresses.len()).expect("a few").to_be_bytes();
        let mut answer = [&query[..2], &flags, &[0, 1], &count, &[0; 4], question].concat();
        for address in addresses {
            let (kind, bytes) = match address {
                IpAddr::V4(v4) => (A, v4.octets().to_vec()),
                IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
            };
            let length = u8::try_from(bytes.len()).expect("a few");
            // Of the name in the question.
            answer.extend([0xc0, 12, 0, kind, 0, 1]);
            answer.extend(seconds.to_be_bytes());
            answer.extend([0, length]);
            answer.extend(bytes);
        }
        Some(answer)
    }

    fn offered(&self, offers: &[Offer], query: &[u8], question: &[u8]) -> Vec<u8> {
        let seconds = self.says.lock().unwrap_or_else(PoisonError::into_inner).2;
        let count = u16::try_from(offers.len()).expect("a few").to_be_bytes();
        let flags = [0x81, 0x80];
        let mut answer = [&query[..2], &flags, &[0, 1], &count, &[0; 4], question].concat();
        for &(priority, weight, port, host) in offers {
            let mut data = [priority, weight, port].map(u16::to_be_bytes).concat();
            for label in host.split('.').filter(|label| !label.is_empty()) {
                data.push(u8::try_from(label.len()).expect("a short one"));
                data.extend(label.as_bytes());
            }
            data.push(0);
            answer.extend([0xc0, 12, 0, SRV, 0, 1]);
            answer.extend(seconds.to_be_bytes());
            answer.extend(u16::try_from(data.len()).expect("a few").to_be_bytes());
            answer.extend(data);
        }
        answer
    }
}
