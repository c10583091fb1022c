"""A mail program of Python's standard library: one session of smtplib and one
of imaplib through the gateways. Reads its settings as JSON from standard input
and prints the number of things it checked; any difference ends it with a
traceback."""

import email
import email.policy
import imaplib
import json
import random
import re
import smtplib
import socket
import ssl
import sys
from email.message import EmailMessage

conf = json.load(sys.stdin)
A, B = conf["a"], conf["b"]  # gateways: smtp, imap (ports), ca, password
checked = 0
socket.setdefaulttimeout(60)


def equal(what, got, want):
    global checked
    checked += 1
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def true(what, ok, seen=None):
    equal(f"{what} ({seen!r})", bool(ok), True)


def smtp(g, user):
    s = smtplib.SMTP_SSL("localhost", g["smtp"], context=ssl.create_default_context(cafile=g["ca"]))
    s.login(user, g["password"])
    return s


def imap(g, user):
    m = imaplib.IMAP4_SSL("localhost", g["imap"], ssl_context=ssl.create_default_context(cafile=g["ca"]))
    equal("login", m.login(user, g["password"])[0], "OK")
    return m


def refused(what, exception, code, call, words=""):
    try:
        got = call()
    except exception as e:
        if isinstance(e, smtplib.SMTPRecipientsRefused):
            codes = {c for c, _ in e.recipients.values()}
            text = b" ".join(t for _, t in e.recipients.values())
            equal(what, codes, {code})
        else:
            equal(what, e.smtp_code, code)
            text = e.smtp_error
        true(what + ": text", words.encode() in text, text)
        return
    raise AssertionError(f"{what}: was not refused, but gave {got!r}")


def letter(name, to, attachment=b""):
    m = EmailMessage(policy=email.policy.SMTP)
    m["From"] = f"Älice CANARY-python-{name} <{conf['alice']}>"
    m["To"] = ", ".join(to)
    m["Date"] = "Mon, 23 Nov 2026 10:00:00 +0100"
    m["Message-ID"] = f"<python-{name}@a.test>"
    m["Subject"] = f"Grüße CANARY-python-{name}"
    m.set_content(f"Schöne Grüße – CANARY-python-{name}\n")
    m.add_alternative(f"<p>Schöne Grüße – CANARY-python-{name}</p>\n", subtype="html")
    if attachment:
        m.add_attachment(attachment, maintype="application", subtype="octet-stream", filename=f"größe-CANARY-python-{name}.bin")
    random.seed(name)
    m.as_bytes()  # makes the boundaries: the same whenever the letter is built
    return m


def opened(octets):
    """The submitted octets: what follows the status field of the gateway."""
    found = re.search(rb"^CloudMLS-Status:.*\r\n(?:[ \t].*\r\n)*", octets, re.M)
    true("a status field", found, octets[:300])
    return octets[found.end():]


# --- smtplib ---------------------------------------------------------------

heidi, grace, alice = conf["heidi"], conf["grace"], conf["alice"]
blob = bytes(range(256)) * 400
single, both = letter("single", [heidi], blob), letter("both", [heidi, grace])

s = smtp(A, alice)
s.ehlo()
for extension in ("pipelining", "8bitmime", "size", "enhancedstatuscodes"):
    true("announces " + extension, s.has_extn(extension), s.esmtp_features)
equal("send_message to one", s.send_message(single), {})
equal("send_message to two", s.send_message(both), {})

eight = f"From: {alice}\r\nTo: {heidi}\r\nMessage-ID: <python-eight@a.test>\r\nSubject: Grüße CANARY-python-eight\r\n\r\n8 bit: äöü\r\n.\r\n..\r\nCANARY-python-eight\r\n".encode()
equal("8BITMIME", s.sendmail(alice, [heidi], eight, mail_options=["BODY=8BITMIME"]), {})

# Of two recipients one is no address at all: the other still gets it.
some = s.sendmail(alice, [heidi, "no address@@b.test"], letter("some", [heidi]).as_bytes())
equal("the refused one", list(some), ["no address@@b.test"])
true("its code", 500 <= some["no address@@b.test"][0] < 600, some)

# Who cannot read encrypted mail is not mixed with who can, and nothing leaves.
refused("mixed recipients", smtplib.SMTPDataError, 550,
        lambda: s.sendmail(alice, [heidi, "nobody@b.test"], letter("mixed", [heidi, "nobody@b.test"]).as_bytes()), "nobody@b.test")
refused("another's address", smtplib.SMTPRecipientsRefused, 550, lambda: s.sendmail("bob@a.test", [heidi], eight), "bob@a.test")
refused("too big", smtplib.SMTPSenderRefused, 552,
        lambda: s.sendmail(alice, [heidi], eight, mail_options=[f"SIZE={int(s.esmtp_features['size']) + 1}"]) and None)
equal("goes on", s.noop()[0], 250)

# Everything up to the content in one packet (RFC 2920).
s.sock.sendall(f"MAIL FROM:<{alice}> BODY=8BITMIME\r\nRCPT TO:<{heidi}>\r\nRCPT TO:<{grace}>\r\nDATA\r\n".encode())
equal("pipelined", [s.getreply()[0] for _ in range(4)], [250, 250, 250, 354])
piped = letter("piped", [heidi, grace]).as_bytes()
s.sock.sendall(piped + b".\r\nNOOP\r\n")
equal("pipelined content", [s.getreply()[0] for _ in range(2)], [250, 250])
s.quit()

refused("wrong password", smtplib.SMTPAuthenticationError, 535, lambda: smtp({**A, "password": "wrong"}, alice))

# --- imaplib ---------------------------------------------------------------

m = imap(B, heidi)
kind, boxes = m.list()
equal("LIST", kind, "OK")
true("LIST names the special mailboxes", any(rb"\Drafts" in b for b in boxes), boxes)
capabilities = m.capability()[1][0].split()  # those after the login
for word in (b"IDLE", b"MOVE", b"UIDPLUS", b"SORT", b"THREAD=REFERENCES"):
    true("announces " + word.decode(), word in capabilities, capabilities)
for word in (b"BINARY", b"CATENATE", b"COMPRESS=DEFLATE"):
    true("does not announce " + word.decode(), word not in capabilities, capabilities)


def uid_of(mailbox, message_id, tries=600):
    import time
    for _ in range(tries):
        equal("SELECT " + mailbox, m.select(mailbox)[0], "OK")
        kind, data = m.uid("SEARCH", "HEADER", "Message-ID", message_id)
        equal("SEARCH", kind, "OK")
        if data[0]:
            return data[0].split()[-1].decode()
        time.sleep(0.05)  # another process delivers; there is nothing to wait on
    raise AssertionError(f"{message_id} is not in {mailbox}")


def fetch(uid, item):
    kind, data = m.uid("FETCH", uid, f"({item})")
    equal("FETCH " + item, kind, "OK")
    return data


def body(uid, section=""):
    for part in fetch(uid, f"BODY.PEEK[{section}]"):
        if isinstance(part, tuple):
            return part[1]
    raise AssertionError(f"no BODY[{section}]")


uid = uid_of("INBOX", "<python-single@a.test>")
whole = body(uid)
equal("single, octet by octet", opened(whole), single.as_bytes())
read = email.message_from_bytes(whole, policy=email.policy.default)
equal("subject", read["Subject"], single["Subject"])
equal("text", read.get_body(("plain",)).get_content().replace("\r\n", "\n"), single.get_body(("plain",)).get_content())
(attached,) = read.iter_attachments()
equal("attachment", attached.get_content(), blob)
equal("its name", attached.get_filename(), "größe-CANARY-python-single.bin")
true("its structure", b'"octet-stream"' in b"".join(x if isinstance(x, bytes) else b"".join(x) for x in fetch(uid, "BODYSTRUCTURE")).lower())
part = email.message_from_bytes(body(uid, "2.MIME") + body(uid, "2"), policy=email.policy.default)
equal("the attachment as a part", part.get_content(), blob)
text = email.message_from_bytes(body(uid, "1.1.MIME") + body(uid, "1.1"), policy=email.policy.default)
equal("the text as a part", text.get_content().replace("\r\n", "\n"), single.get_body(("plain",)).get_content())
true("kept as unread", rb"\Seen" not in fetch(uid, "FLAGS")[0], None)
fetch(uid, "BODY[TEXT]<0.10>")
true("read now", rb"\Seen" in fetch(uid, "FLAGS")[0], None)

equal("STORE", m.uid("STORE", uid, "+FLAGS", r"(\Flagged own)")[0], "OK")
flags = fetch(uid, "FLAGS")[0]
true("flags", rb"\Flagged" in flags and b"own" in flags and b"$MLSEncrypted" in flags and b"$MLSWarning" not in flags, flags)
equal("8 bit, octet by octet", opened(body(uid_of("INBOX", "<python-eight@a.test>"))), eight)
for name, msg in (("both", both.as_bytes()), ("piped", piped)):
    equal(name, opened(body(uid_of("INBOX", f"<python-{name}@a.test>"))), msg)
equal("some", opened(body(uid_of("INBOX", "<python-some@a.test>"))), letter("some", [heidi]).as_bytes())
equal("nothing of what was refused", m.uid("SEARCH", "HEADER", "Message-ID", "<python-mixed@a.test>")[1], [b""])

uid = uid_of("INBOX", "<python-single@a.test>")
equal("COPY", m.uid("COPY", uid, "Archive")[0], "OK")
equal("the copy", opened(body(uid_of("Archive", "<python-single@a.test>"))), single.as_bytes())
equal("delete the copy", m.uid("STORE", uid_of("Archive", "<python-single@a.test>"), "+FLAGS", r"(\Deleted)")[0], "OK")
equal("EXPUNGE", m.expunge()[0], "OK")
equal("the copy is gone", m.uid("SEARCH", "HEADER", "Message-ID", "<python-single@a.test>")[1], [b""])

draft = letter("draft", [grace], blob).as_bytes()
kind, data = m.append("Drafts", r"(\Draft \Seen)", imaplib.Time2Internaldate(1_700_000_000), draft)
equal("APPEND", kind, "OK")
uid = re.search(rb"APPENDUID \d+ (\d+)", data[0]).group(1).decode()
m.select("Drafts")
equal("the draft", opened(body(uid)), draft)
true("its flags", rb"\Draft" in fetch(uid, "FLAGS")[0])
true("its date", b"14-Nov-2023" in fetch(uid, "INTERNALDATE")[0], fetch(uid, "INTERNALDATE"))

# IDLE, by hand: imaplib knows it from Python 3.14 on.
before = int(m.select("INBOX")[1][0])


def send_one(name):
    with smtp(A, alice) as out:
        out.send_message(letter(name, [heidi]))


tag = m._new_tag()
m.send(tag + b" IDLE\r\n")
true("IDLE begins", m.readline().startswith(b"+"))
send_one("idle")
while not (line := m.readline()).endswith(b"EXISTS\r\n"):
    true("an untagged response", line.startswith(b"* "), line)
equal("one more", int(line.split()[1]), before + 1)
m.send(b"DONE\r\n")
while not (line := m.readline()).startswith(tag):
    true("an untagged response", line.startswith(b"* "), line)
true("IDLE ends", line.startswith(tag + b" OK"), line)
equal("what arrived", opened(body(uid_of("INBOX", "<python-idle@a.test>"))), letter("idle", [heidi]).as_bytes())
equal("CLOSE", m.close()[0], "OK")
equal("LOGOUT", m.logout()[0], "BYE")

other = imap(B, grace)
m = other
for name, msg in (("both", both.as_bytes()), ("piped", piped)):
    equal(name + " at the other", opened(body(uid_of("INBOX", f"<python-{name}@a.test>"))), msg)
m.logout()
try:
    imap({**B, "password": "wrong"}, heidi)
except imaplib.IMAP4.error as e:
    true("wrong password", "AUTHENTICATIONFAILED" in str(e), str(e))
else:
    raise AssertionError("a wrong password is accepted")
print("checked", checked)
