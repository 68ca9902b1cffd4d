"use strict";
// A review as CSV, for the pages that let one download it.
const reviewCsv = (columns, rows) => {
  const cell = value => {
    // A spreadsheet would execute such a cell as a formula.
    const text = /^'*[=+\-@\t\r\n]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows.map(row => columns.map(name => cell(String(row[name] ?? ""))))].map(line => line.join(",")).join("\r\n") + "\r\n";
};
const downloadReview = (columns, rows) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([reviewCsv(columns, rows)], {type: "text/csv"}));
  link.download = "review.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};
