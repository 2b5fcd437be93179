/*
 * Sends with nodemailer what standard input says: {"transport": {...}, "mails": [{...}, ...]}, as nodemailer's own options; a mail's
 * "text64" is its whole text, in base64, where it is not nodemailer that writes it. Prints one outcome a mail, in their order.
 *
 * The module is found by NODE_PATH.
 */
'use strict';
const nodemailer = require('nodemailer');

async function outcome(transport, mail) {
    if (mail.text64 !== undefined)
        mail = { envelope: mail.envelope, raw: Buffer.from(mail.text64, 'base64') };
    try {
        const sent = await transport.sendMail(mail);
        return { accepted: sent.accepted, rejected: sent.rejected, response: sent.response };
    } catch (error) {
        return { code: error.code || error.name, responseCode: error.responseCode, message: error.message };
    }
}

async function main() {
    const wanted = JSON.parse(require('fs').readFileSync(0));
    const transport = nodemailer.createTransport(wanted.transport);
    const outcomes = await Promise.all(wanted.mails.map(mail => outcome(transport, mail)));
    transport.close();
    process.stdout.write(JSON.stringify(outcomes));
}

main();
